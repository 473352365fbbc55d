"""What a person applies once: the bucket of the states, and how GitHub's workflows prove who they are.

No key exists: a workflow's own token is exchanged, and only tokens of this repository are taken. Two accounts: one
that plans and can change nothing, for pull requests; one that applies, for the environment whose reviewers let it.
"""

from __future__ import annotations

from cdktf_cdktf_provider_google.iam_workload_identity_pool import IamWorkloadIdentityPool
from cdktf_cdktf_provider_google.iam_workload_identity_pool_provider import IamWorkloadIdentityPoolProvider
from cdktf_cdktf_provider_google.project_iam_member import ProjectIamMember
from cdktf_cdktf_provider_google.project_service import ProjectService
from cdktf_cdktf_provider_google.service_account import ServiceAccount
from cdktf_cdktf_provider_google.service_account_iam_member import ServiceAccountIamMember
from cdktf_cdktf_provider_google.storage_bucket import StorageBucket
from cdktf_cdktf_provider_google.storage_bucket_iam_member import StorageBucketIamMember
from constructs import Construct

from infra.access.deployers import APPLY, PLAN, Deployer
from infra.cdk import blocks
from infra.environments import Deployment
from infra.stacks.base import Stack

NAME = "bootstrap"
POOL = "github"
# Without these nothing else can be asked for; the rest is enabled by the foundation.
APIS = ("cloudresourcemanager", "iam", "iamcredentials", "serviceusage", "storage", "sts")


class BootstrapStack(Stack):
    """State bucket, workload identity federation, the accounts of CI."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        super().__init__(scope, NAME, deployment)
        cloud, names = deployment.cloud, deployment.names
        enabled = [
            ProjectService(self, f"api-{api}", service=f"{api}.googleapis.com", disable_on_destroy=False)
            for api in APIS
        ]
        state = StorageBucket(
            self,
            "state",
            name=names.bucket("state"),
            location=cloud.region,
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            force_destroy=not cloud.protected,
            versioning={"enabled": True},
            soft_delete_policy={"retention_duration_seconds": 30 * 86_400},
            lifecycle_rule=blocks(
                {
                    "action": {"type": "Delete"},
                    "condition": {"num_newer_versions": 50, "with_state": "ARCHIVED"},
                }
            ),
            lifecycle={"prevent_destroy": True} if cloud.protected else None,
            depends_on=enabled,
        )
        pool = IamWorkloadIdentityPool(
            self, "pool", workload_identity_pool_id=POOL, display_name="GitHub Actions", depends_on=enabled
        )
        repository_id = cloud.github.repository_id
        IamWorkloadIdentityPoolProvider(
            self,
            "provider",
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=POOL,
            display_name="GitHub Actions",
            # A repository's name can be taken over when it is renamed; its number can't.
            attribute_condition=f"assertion.repository_id == '{repository_id}'",
            attribute_mapping={
                "google.subject": "assertion.sub",
                "attribute.ref": "assertion.ref",
                "attribute.repository_id": "assertion.repository_id",
                "attribute.repo_env": "assertion.repository_id + ':' + "
                "(has(assertion.environment) ? assertion.environment : 'none')",
            },
            oidc={"issuer_uri": "https://token.actions.githubusercontent.com"},
        )
        self._deployer(PLAN, pool.name, f"{repository_id}:none", state)
        self._deployer(APPLY, pool.name, f"{repository_id}:{deployment.name}", state)

    def _deployer(self, deployer: Deployer, pool: str, subject: str, state: StorageBucket) -> None:
        project = self.deployment.cloud.project
        account = ServiceAccount(
            self,
            deployer.name,
            account_id=self.deployment.names.account_id(deployer.name),
            display_name=f"Caudal: CI, {deployer.does}",
        )
        for role in deployer.roles:
            ProjectIamMember(
                self,
                f"{deployer.name}-{role.removeprefix('roles/').replace('.', '-')}",
                project=project,
                role=role,
                member=account.member,
            )
        StorageBucketIamMember(
            self, f"{deployer.name}-state", bucket=state.name, role=deployer.state_role, member=account.member
        )
        ServiceAccountIamMember(
            self,
            f"{deployer.name}-federation",
            service_account_id=account.name,
            role="roles/iam.workloadIdentityUser",
            member=f"principalSet://iam.googleapis.com/{pool}/attribute.repo_env/{subject}",
        )
