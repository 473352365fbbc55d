"""Service accounts, and the grants that they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cdktf_cdktf_provider_google.artifact_registry_repository_iam_member import ArtifactRegistryRepositoryIamMember
from cdktf_cdktf_provider_google.bigquery_dataset_iam_member import BigqueryDatasetIamMember
from cdktf_cdktf_provider_google.cloud_run_v2_job_iam_member import CloudRunV2JobIamMember
from cdktf_cdktf_provider_google.cloud_run_v2_service_iam_member import CloudRunV2ServiceIamMember
from cdktf_cdktf_provider_google.project_iam_member import ProjectIamMember
from cdktf_cdktf_provider_google.service_account import ServiceAccount
from cdktf_cdktf_provider_google.service_account_iam_member import ServiceAccountIamMember
from cdktf_cdktf_provider_google.storage_bucket_iam_member import StorageBucketIamMember
from cdktf_cdktf_provider_google.storage_managed_folder_iam_member import StorageManagedFolderIamMember
from constructs import Construct

from caudal.cloud_names import CloudNames
from infra.access.grants import Grant
from infra.access.roles import CONDITIONED, Scope
from infra.environments import Deployment


class Account(Construct):
    """The service account of a unit. It has no key, and gets its roles from grants only."""

    def __init__(self, scope: Construct, unit: str, deployment: Deployment) -> None:
        super().__init__(scope, f"account-{unit}")
        self.resource = ServiceAccount(
            self,
            "account",
            account_id=deployment.names.account_id(unit),
            display_name=f"Caudal: {unit.replace('_', ' ')}",
        )


class Grants(Construct):
    """The grants of accounts, each on its own resource.

    Raises:
        KeyError: a grant is on a kind of resource that is not known.
    """

    def __init__(self, scope: Construct, grants: Iterable[Grant], deployment: Deployment) -> None:
        super().__init__(scope, "grants")
        names = deployment.names
        self.resources = [
            _MEMBERS[grant.scope](self, names, grant, f"serviceAccount:{names.account(grant.account)}")
            for grant in grants
        ]


def _id(grant: Grant) -> str:
    """Names a grant's address by what it is, so that one more grant moves no other."""
    role = grant.role.removeprefix("roles/").replace(".", "-")
    return "-".join(filter(None, (grant.account, role, grant.scope, grant.resource)))


def _bucket(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    return StorageBucketIamMember(
        scope, _id(grant), bucket=names.bucket(grant.resource), role=grant.role, member=member
    )


def _folder(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    return StorageManagedFolderIamMember(
        scope,
        _id(grant),
        bucket=names.bucket("artifacts"),
        managed_folder=f"{grant.resource}/",
        role=grant.role,
        member=member,
    )


def _dataset(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    return BigqueryDatasetIamMember(scope, _id(grant), dataset_id=grant.resource, role=grant.role, member=member)


def _service(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    return CloudRunV2ServiceIamMember(
        scope,
        _id(grant),
        name=names.resource(grant.resource),
        location=names.region,
        role=grant.role,
        member=member,
    )


def _job(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    return CloudRunV2JobIamMember(
        scope,
        _id(grant),
        name=names.resource(grant.resource),
        location=names.region,
        role=grant.role,
        member=member,
    )


def _account(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    account = f"projects/{names.project}/serviceAccounts/{names.account(grant.resource)}"
    return ServiceAccountIamMember(scope, _id(grant), service_account_id=account, role=grant.role, member=member)


def _repository(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    return ArtifactRegistryRepositoryIamMember(
        scope, _id(grant), repository=grant.resource, location=names.region, role=grant.role, member=member
    )


def _project(scope: Construct, names: CloudNames, grant: Grant, member: str) -> Any:
    condition = _on_database(names) if grant.role in CONDITIONED else None
    return ProjectIamMember(
        scope, _id(grant), project=names.project, role=grant.role, member=member, condition=condition
    )


def _on_database(names: CloudNames) -> dict[str, str]:
    """Cloud SQL takes grants on the project only; a condition narrows them to the instance.

    See "IAM conditions" in Cloud SQL's documentation for the form of the expression.
    """
    instance = f"projects/{names.project}/instances/{names.database_instance}"
    return {
        "title": "only the tracking database",
        "expression": f"resource.name == '{instance}' && resource.service == 'sqladmin.googleapis.com'",
    }


_MEMBERS: Mapping[Scope, Callable[[Construct, CloudNames, Grant, str], Any]] = {
    "account": _account,
    "bucket": _bucket,
    "dataset": _dataset,
    "folder": _folder,
    "job": _job,
    "project": _project,
    "repository": _repository,
    "service": _service,
}
