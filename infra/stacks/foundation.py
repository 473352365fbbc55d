"""What everything else stands on: APIs, network, registry, service accounts, the database."""

from __future__ import annotations

from cdktf_cdktf_provider_google.artifact_registry_repository import ArtifactRegistryRepository
from cdktf_cdktf_provider_google.compute_firewall import ComputeFirewall
from cdktf_cdktf_provider_google.compute_global_address import ComputeGlobalAddress
from cdktf_cdktf_provider_google.compute_network import ComputeNetwork
from cdktf_cdktf_provider_google.compute_subnetwork import ComputeSubnetwork
from cdktf_cdktf_provider_google.project_service import ProjectService
from cdktf_cdktf_provider_google.service_networking_connection import ServiceNetworkingConnection
from constructs import Construct

from caudal.cloud_names import FUNCTION_REPOSITORY, NETWORK, REPOSITORY
from infra.cdk import blocks
from infra.constructs.accounts import Account
from infra.constructs.database import Database
from infra.environments import Deployment
from infra.stacks.base import Stack

NAME = "foundation"

APIS = (
    "aiplatform",
    "artifactregistry",
    "bigquery",
    "bigquerystorage",
    "billingbudgets",
    "cloudbuild",
    "cloudfunctions",
    "cloudscheduler",
    "compute",
    "dataflow",
    "logging",
    "monitoring",
    "run",
    "servicenetworking",
    "sqladmin",
    "workflowexecutions",
    "workflows",
)
# Dataflow's workers shuffle among themselves on these ports.
SHUFFLE_PORTS = ["12345-12346"]


class FoundationStack(Stack):
    """APIs, network with private access, Artifact Registry, service accounts, Cloud SQL.

    Args:
        units: those that run as an account of their own.
    """

    def __init__(self, scope: Construct, deployment: Deployment, units: tuple[str, ...]) -> None:
        super().__init__(scope, NAME, deployment)
        self._apis = [
            ProjectService(self, f"api-{api}", service=f"{api}.googleapis.com", disable_on_destroy=False)
            for api in APIS
        ]
        network, services = self._network()
        self._registries()
        for unit in units:
            Account(self, unit, deployment)
        Database(self, deployment, network, services)

    def _network(self) -> tuple[ComputeNetwork, ServiceNetworkingConnection]:
        ranges = self.deployment.cloud.network
        network = ComputeNetwork(
            self, "network", name=NETWORK, auto_create_subnetworks=False, depends_on=self._apis
        )
        ComputeSubnetwork(
            self,
            "subnetwork",
            name=NETWORK,
            network=network.id,
            region=self.deployment.cloud.region,
            ip_cidr_range=ranges.subnet,
            # Workers without a public address reach Google's APIs.
            private_ip_google_access=True,
            log_config={
                "aggregation_interval": "INTERVAL_10_MIN",
                "flow_sampling": 0.1,
                "metadata": "INCLUDE_ALL_METADATA",
            },
        )
        ComputeFirewall(
            self,
            "shuffle",
            name=f"{NETWORK}-dataflow-shuffle",
            network=network.id,
            description="Dataflow workers among themselves, and nobody else",
            direction="INGRESS",
            source_tags=["dataflow"],
            target_tags=["dataflow"],
            allow=blocks({"protocol": "tcp", "ports": SHUFFLE_PORTS}),
        )
        address, length = ranges.services.split("/")
        lent = ComputeGlobalAddress(
            self,
            "services",
            name=f"{NETWORK}-services",
            purpose="VPC_PEERING",
            address_type="INTERNAL",
            address=address,
            prefix_length=int(length),
            network=network.id,
        )
        connection = ServiceNetworkingConnection(
            self,
            "services-connection",
            network=network.id,
            service="servicenetworking.googleapis.com",
            reserved_peering_ranges=[lent.name],
            # Google refuses to take the peering away for days after the last database is gone.
            deletion_policy="ABANDON",
        )
        return network, connection

    def _registries(self) -> None:
        for name, repository, immutable, holds in (
            ("registry", REPOSITORY, True, "Images of Caudal's units"),
            ("function-registry", FUNCTION_REPOSITORY, False, "Images that Google builds of Caudal's functions"),
        ):
            ArtifactRegistryRepository(
                self,
                name,
                repository_id=repository,
                location=self.deployment.cloud.region,
                format="DOCKER",
                description=holds,
                docker_config={"immutable_tags": immutable},
                vulnerability_scanning_config={"enablement_config": "INHERITED"},
                # What runs is always among the newest of its unit.
                cleanup_policies=blocks(
                    {
                        "id": "keep-newest",
                        "action": "KEEP",
                        "most_recent_versions": {"keep_count": 10},
                    },
                    {
                        "id": "delete-old",
                        "action": "DELETE",
                        "condition": {"tag_state": "ANY", "older_than": "7776000s"},
                    },
                ),
                depends_on=self._apis,
            )
