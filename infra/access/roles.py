"""The roles that are ever granted to a running unit, and the narrowest resource on which each can be.

A role that is not listed here is not granted. Sources: the pages "IAM basic and predefined roles" of each service
and, for what a role can be granted on, "Resource types that accept allow policies" of Google Cloud's IAM
documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Scope = Literal["bucket", "folder", "dataset", "service", "job", "account", "repository", "project"]

# Scopes from the narrowest; a role may stand on those that are listed for it and on no other.
ROLES: Mapping[str, tuple[Scope, ...]] = {
    "roles/storage.objectViewer": ("bucket", "folder"),
    "roles/storage.objectUser": ("bucket", "folder"),
    "roles/storage.objectCreator": ("bucket",),
    "roles/bigquery.dataViewer": ("dataset",),
    "roles/bigquery.dataEditor": ("dataset",),
    "roles/run.invoker": ("service",),
    "roles/run.jobsExecutorWithOverrides": ("job",),
    "roles/iam.serviceAccountUser": ("account",),
    "roles/iam.workloadIdentityUser": ("account",),
    "roles/artifactregistry.reader": ("repository",),
    "roles/artifactregistry.writer": ("repository",),
    # Jobs, read sessions, executions and log entries belong to the project: there is no narrower resource.
    "roles/bigquery.jobUser": ("project",),
    "roles/bigquery.readSessionUser": ("project",),
    "roles/workflows.invoker": ("project",),
    "roles/workflows.viewer": ("project",),
    "roles/dataflow.developer": ("project",),
    "roles/dataflow.worker": ("project",),
    "roles/aiplatform.user": ("project",),
    "roles/logging.logWriter": ("project",),
    # On the project with a condition that names the one instance.
    "roles/cloudsql.client": ("project",),
    "roles/cloudsql.instanceUser": ("project",),
}

# Needs the instance's name in a condition.
CONDITIONED = frozenset({"roles/cloudsql.client", "roles/cloudsql.instanceUser"})


def too_wide(role: str) -> str | None:
    """Why no running unit may hold a role; None where it may."""
    name = role.removeprefix("roles/")
    if name in ("owner", "editor", "viewer", "browser"):
        return "it is a basic role: it covers every service"
    if "admin" in name.lower():
        return "it is an administrator's role"
    if role not in ROLES:
        return "it is not listed in infra/access/roles.py"
    return None
