"""Cloud Run: jobs and services by digest, without a public address, each as its own account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdktf_cdktf_provider_google.cloud_run_v2_job import CloudRunV2Job
from cdktf_cdktf_provider_google.cloud_run_v2_service import CloudRunV2Service
from constructs import Construct

from caudal.cloud_environment import JobSize, ServiceSize
from caudal.cloud_names import NETWORK
from infra.cdk import blocks
from infra.environments import Deployment


def direct_egress() -> dict[str, Any]:
    """Traffic to private addresses goes into the network directly: no connector, which would run all day."""
    return {
        "egress": "PRIVATE_RANGES_ONLY",
        "network_interfaces": blocks({"network": NETWORK, "subnetwork": NETWORK}),
    }


def variables(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


class Job(Construct):
    """A Cloud Run job. The workflow gives each execution its arguments and decides on another attempt."""

    def __init__(self, scope: Construct, unit: str, image: str, size: JobSize, deployment: Deployment) -> None:
        super().__init__(scope, "job")
        names = deployment.names
        self.resource = CloudRunV2Job(
            self,
            "job",
            name=names.resource(unit),
            location=names.region,
            deletion_protection=deployment.cloud.protected,
            template={
                "task_count": size.tasks,
                "parallelism": size.tasks,
                "template": {
                    "service_account": names.account(unit),
                    "timeout": f"{size.timeout_seconds}s",
                    "max_retries": 0,
                    "containers": blocks(
                        {
                            "image": image,
                            "resources": {"limits": {"cpu": size.cpu, "memory": size.memory}},
                        }
                    ),
                },
            },
        )


class Service(Construct):
    """A Cloud Run service. A revision that does not become healthy gets no traffic.

    Args:
        name: of the service.
        unit: which account it runs as.
        health: the path that answers once the server is up.
        arguments: of the container's command.
        ingress: who can reach it at all; who may call it is decided by grants.
        sidecars: containers beside the first, which starts after they are healthy.
        network: whether it reaches private addresses.
        startup_seconds: after which a container that is not healthy has failed.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        unit: str,
        image: str,
        size: ServiceSize,
        deployment: Deployment,
        *,
        port: int,
        health: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        ingress: str = "INGRESS_TRAFFIC_INTERNAL_ONLY",
        sidecars: Sequence[Mapping[str, Any]] = (),
        network: bool = False,
        startup_seconds: int = 120,
    ) -> None:
        super().__init__(scope, name)
        names = deployment.names
        container: dict[str, Any] = {
            "name": "main",
            "image": image,
            "ports": {"container_port": port},
            "args": list(arguments),
            "env": variables(environment or {}),
            # CPU only while a request is served: idle instances cost nothing but their memory.
            "resources": {
                "limits": {"cpu": size.cpu, "memory": size.memory},
                "cpu_idle": True,
                "startup_cpu_boost": True,
            },
            "startup_probe": {
                "http_get": {"path": health, "port": port},
                "period_seconds": 5,
                "failure_threshold": startup_seconds // 5,
                "timeout_seconds": 4,
            },
            "liveness_probe": {
                "http_get": {"path": health, "port": port},
                "period_seconds": 30,
                "failure_threshold": 3,
                "timeout_seconds": 4,
            },
        }
        if sidecars:
            container["depends_on"] = [sidecar["name"] for sidecar in sidecars]
        self.resource = CloudRunV2Service(
            self,
            "service",
            name=name,
            location=names.region,
            ingress=ingress,
            deletion_protection=deployment.cloud.protected,
            template={
                "service_account": names.account(unit),
                "timeout": "60s",
                "max_instance_request_concurrency": size.concurrency,
                "scaling": {
                    "min_instance_count": size.min_instances,
                    "max_instance_count": size.max_instances,
                },
                "containers": blocks(container, *sidecars),
                **({"vpc_access": direct_egress()} if network else {}),
            },
            traffic=blocks({"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}),
        )
