"""Where data lies: buckets and their folders, data sets, and the tables that the contracts describe."""

from __future__ import annotations

from cdktf_cdktf_provider_google.storage_bucket_iam_member import StorageBucketIamMember
from constructs import Construct

from caudal.cloud_names import FOLDERS
from caudal.contract import Contract
from caudal.tables import DATASETS, Table, contract_tables
from infra.constructs.storage import Bucket, Expiry, Folder
from infra.constructs.tables import ContractTable, Dataset
from infra.environments import Deployment
from infra.stacks.base import Stack

NAME = "data"


def tables_of(contracts: tuple[Contract, ...]) -> tuple[Table, ...]:
    """The tables of all contracts, each once: some are shared."""
    found = {table.sql_name: table for contract in contracts for table in contract_tables(contract)}
    return tuple(found[name] for name in sorted(found))


class DataStack(Stack):
    """Buckets, data sets and tables."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        super().__init__(scope, NAME, deployment)
        retention = deployment.cloud.retention
        logs = Bucket(
            self, "logs", deployment, temporary=True, expiries=[Expiry(retention.logs)], logged=False
        ).resource
        # Cloud Storage writes the logs of accesses under this name.
        StorageBucketIamMember(
            self,
            "logs-writer",
            bucket=logs.name,
            role="roles/storage.objectCreator",
            member="group:cloud-storage-analytics@google.com",
        )
        buckets = {
            "landing": Bucket(self, "landing", deployment),
            "artifacts": Bucket(self, "artifacts", deployment, expiries=[Expiry(retention.staging, ["staging/"])]),
            "models": Bucket(self, "models", deployment),
            "mlflow": Bucket(self, "mlflow", deployment),
            "releases": Bucket(self, "releases", deployment),
            "temp": Bucket(self, "temp", deployment, temporary=True, expiries=[Expiry(retention.staging)]),
        }
        for bucket in buckets.values():
            bucket.node.add_dependency(logs)
        for name in FOLDERS:
            Folder(self, name, buckets["artifacts"].resource.name, deployment)
        datasets = {name: Dataset(self, name, deployment) for name in DATASETS}
        for table in tables_of(deployment.contracts):
            ContractTable(self, table, datasets[table.dataset], deployment)
