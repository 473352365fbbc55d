"""The accounts of CI. They deploy, so they hold roles that no running unit may hold; each has its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Deployer:
    """An account that a workflow of GitHub acts as.

    Attributes:
        roles: on the project, each with what it is for.
        state_role: on the bucket of the states.
    """

    name: str
    does: str
    roles: Mapping[str, str]
    state_role: str


PLAN = Deployer(
    "ci-plan",
    "plans and changes nothing",
    {
        "roles/viewer": "terraform reads every resource; a basic role, and the only one that reads all of them",
        "roles/iam.securityReviewer": "terraform reads every grant",
    },
    # A plan locks the state, which creates an object.
    "roles/storage.objectUser",
)

APPLY = Deployer(
    "ci-apply",
    "applies what reviewers let through",
    {
        "roles/artifactregistry.admin": "the repository, its grants and its images",
        "roles/bigquery.admin": "data sets, tables and their grants",
        "roles/cloudfunctions.admin": "the ingest function",
        "roles/cloudscheduler.admin": "the schedules",
        "roles/cloudsql.admin": "the tracking database and its users",
        "roles/compute.networkAdmin": "network, subnetwork and the peering for managed services",
        "roles/compute.securityAdmin": "firewall rules",
        "roles/iam.serviceAccountAdmin": "the units' accounts and who may act as them",
        "roles/iam.serviceAccountUser": "it deploys units that run as their accounts",
        "roles/logging.admin": "sinks, metrics and how long logs are kept",
        "roles/monitoring.admin": "alert policies, channels and the dashboard",
        "roles/resourcemanager.projectIamAdmin": "grants that can only be on the project",
        "roles/run.admin": "jobs, services and their grants",
        "roles/servicenetworking.networksAdmin": "the connection to managed services",
        "roles/serviceusage.serviceUsageAdmin": "the APIs",
        "roles/storage.admin": "buckets, folders, their grants, and the config prefix",
        "roles/workflows.admin": "the workflows",
        "roles/workflows.invoker": "a deploy ends by starting a run",
    },
    "roles/storage.objectUser",
)

DEPLOYERS = (PLAN, APPLY)
