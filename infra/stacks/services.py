"""One stack for each unit: what it runs on, and the grants of its account.

A stack of a unit reads that unit's digest from the release and no other's, so a change of one unit changes the
plan of its own stack alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cdktf_cdktf_provider_google.cloud_run_v2_service_iam_member import CloudRunV2ServiceIamMember
from cdktf_cdktf_provider_google.cloudfunctions2_function import Cloudfunctions2Function
from cdktf_cdktf_provider_google.storage_bucket_object import StorageBucketObject
from constructs import Construct

from caudal.cloud_environment import JobSize
from caudal.cloud_names import FUNCTION_REPOSITORY, hyphened
from caudal.contract import Contract
from etl_beam.template import container_spec
from infra.access.grants import BUILDER, Grant
from infra.constructs.accounts import Grants
from infra.constructs.run import Job, Service
from infra.environments import Deployment
from infra.release import Release
from infra.stacks.base import Stack
from pipeline.runs import config_uri

PYTHON_RUNTIME = "python311"


class UnitStack(Stack):
    """A unit's stack: named like the unit, with the grants of its account.

    Args:
        unit: a folder of services/.
        release: where the unit's digest is.
        grants: those of every account; the unit's own are taken.
    """

    def __init__(
        self, scope: Construct, unit: str, deployment: Deployment, release: Release, grants: Iterable[Grant]
    ) -> None:
        super().__init__(scope, hyphened(unit), deployment)
        self.unit = unit
        self.digest = release.digest(unit)
        self.image = deployment.names.image(unit, self.digest)
        self.grants = Grants(self, [grant for grant in grants if grant.account in self.accounts(unit)], deployment)

    def accounts(self, unit: str) -> tuple[str, ...]:
        """The accounts whose grants lie in this stack."""
        return (unit,)


class FunctionStack(UnitStack):
    """A Cloud Function, built by Google from the sources that the release put aside.

    The zip's name is its hash: another name is what makes Cloud Functions build again.
    """

    def accounts(self, unit: str) -> tuple[str, ...]:
        return (unit, BUILDER)

    def __init__(
        self, scope: Construct, unit: str, deployment: Deployment, release: Release, grants: Iterable[Grant]
    ) -> None:
        super().__init__(scope, unit, deployment, release, grants)
        names, size = deployment.names, deployment.cloud.sizes.ingest_function
        repository = f"projects/{names.project}/locations/{names.region}/repositories/{FUNCTION_REPOSITORY}"
        builder = f"projects/{names.project}/serviceAccounts/{names.account(BUILDER)}"
        Cloudfunctions2Function(
            self,
            "function",
            name=names.resource(unit),
            location=names.region,
            build_config={
                "runtime": PYTHON_RUNTIME,
                "entry_point": unit.removesuffix("_function"),
                "service_account": builder,
                "docker_repository": repository,
                "source": {
                    "storage_source": {
                        "bucket": names.bucket("releases"),
                        "object": names.archive(unit, self.digest),
                    }
                },
            },
            service_config={
                "service_account_email": names.account(unit),
                "ingress_settings": "ALLOW_INTERNAL_ONLY",
                "all_traffic_on_latest_revision": True,
                "available_cpu": size.cpu,
                "available_memory": size.memory,
                "timeout_seconds": size.timeout_seconds,
                "max_instance_count": size.max_instances,
                # A call may take the whole budget of bytes: two in one instance would share its memory.
                "max_instance_request_concurrency": 1,
                # Part of the model's identity is the code that made it; the same holds for a load's record.
                "environment_variables": {"CAUDAL_UNIT_DIGEST": self.digest},
            },
            depends_on=self.grants.resources,
        )


class TemplateStack(UnitStack):
    """A Flex Template: an object that tells Dataflow which image to start and which parameters it takes."""

    def __init__(
        self, scope: Construct, unit: str, deployment: Deployment, release: Release, grants: Iterable[Grant]
    ) -> None:
        super().__init__(scope, unit, deployment, release, grants)
        names = deployment.names
        StorageBucketObject(
            self,
            "template",
            bucket=names.bucket("artifacts"),
            name=names.template(unit, self.digest),
            content=json.dumps(container_spec(self.image), sort_keys=True),
            content_type="application/json",
            # A run that is under way still starts from the template that it began with.
            deletion_policy="ABANDON" if deployment.cloud.protected else None,
        )


class JobStack(UnitStack):
    """A Cloud Run job."""

    def __init__(
        self,
        scope: Construct,
        unit: str,
        deployment: Deployment,
        release: Release,
        grants: Iterable[Grant],
        size: JobSize,
    ) -> None:
        super().__init__(scope, unit, deployment, release, grants)
        Job(self, unit, self.image, size, deployment)


class ServingStack(UnitStack):
    """A serving service for each contract: within the network, for the callers that the environment names.

    A service reads the configuration that was published for its contract; another contract or environment is
    another folder, and so another revision. It is alive before there is a model, so the first deployment, which
    comes before the first training, succeeds.
    """

    def __init__(
        self, scope: Construct, unit: str, deployment: Deployment, release: Release, grants: Iterable[Grant]
    ) -> None:
        super().__init__(scope, unit, deployment, release, grants)
        for contract in deployment.contracts:
            self._service(contract)

    def _service(self, contract: Contract) -> None:
        deployment, names = self.deployment, self.deployment.names
        service = Service(
            self,
            names.serving(contract.name),
            self.unit,
            self.image,
            deployment.cloud.sizes.serving,
            deployment,
            port=8080,
            health="/livez",
            arguments=["--config", config_uri(contract, deployment.environment)],
        )
        for number, member in enumerate(deployment.cloud.callers):
            CloudRunV2ServiceIamMember(
                self,
                f"caller-{hyphened(contract.name)}-{number}",
                name=service.resource.name,
                location=names.region,
                role="roles/run.invoker",
                member=member,
            )


class TrackingStack(UnitStack):
    """MLflow's server on Cloud Run, with its database behind Cloud SQL's proxy and its artifacts in a bucket.

    Vertex AI's jobs come from outside the network, so it can be reached from anywhere; who may call is decided by
    grants. Clients write artifacts into the bucket themselves: Cloud Run refuses bodies above 32 MiB.
    """

    PROXY = "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.18.2"
    PROXY_HEALTH_PORT = 9090

    def __init__(
        self, scope: Construct, unit: str, deployment: Deployment, release: Release, grants: Iterable[Grant]
    ) -> None:
        super().__init__(scope, unit, deployment, release, grants)
        names = deployment.names
        host = names.service_url(unit).removeprefix("https://")
        Service(
            self,
            names.resource(unit),
            unit,
            self.image,
            deployment.cloud.sizes.mlflow_server,
            deployment,
            port=8080,
            health="/health",
            ingress="INGRESS_TRAFFIC_ALL",
            network=True,
            startup_seconds=240,
            environment={
                "DATABASE_USER": names.account(unit).removesuffix(".gserviceaccount.com"),
                "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"gs://{names.bucket('mlflow')}",
                # Without the second, the interface's own requests are refused.
                "MLFLOW_SERVER_ALLOWED_HOSTS": host,
                "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"https://{host}",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            sidecars=[self._proxy()],
        )

    def _proxy(self) -> dict[str, Any]:
        """Takes connections on localhost and logs in to the database as the service's account: no password."""
        return {
            "name": "cloud-sql-proxy",
            "image": self.PROXY,
            "args": [
                "--private-ip",
                "--auto-iam-authn",
                "--health-check",
                "--http-address=0.0.0.0",
                f"--http-port={self.PROXY_HEALTH_PORT}",
                "--port=5432",
                "--structured-logs",
                self.deployment.names.database_connection,
            ],
            "resources": {"limits": {"cpu": "1", "memory": "256Mi"}, "cpu_idle": True},
            "startup_probe": {
                "http_get": {"path": "/startup", "port": self.PROXY_HEALTH_PORT},
                "period_seconds": 2,
                "failure_threshold": 30,
                "timeout_seconds": 2,
            },
        }
