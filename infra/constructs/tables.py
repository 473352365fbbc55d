"""BigQuery data sets and tables, as the contracts describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cdktf_cdktf_provider_google.bigquery_dataset import BigqueryDataset
from cdktf_cdktf_provider_google.bigquery_table import BigqueryTable
from constructs import Construct

from caudal.tables import Table
from infra.environments import Deployment

DESCRIPTIONS: Mapping[str, str] = {
    "lake": "Every row as it came, typed by its contract, with its lineage",
    "warehouse": "One checked row a key with derived features, and the rows that were refused",
    "predictions": "Each key's score by the model that was live when it arrived, and what servers answered",
    "monitoring": "What the monitor measured",
}


class Dataset(Construct):
    """A data set; its contents are destroyed with it only where the environment is not protected."""

    def __init__(self, scope: Construct, name: str, deployment: Deployment) -> None:
        super().__init__(scope, name)
        self.resource = BigqueryDataset(
            self,
            "dataset",
            dataset_id=name,
            location=deployment.cloud.region,
            description=DESCRIPTIONS[name],
            max_time_travel_hours="168",
            delete_contents_on_destroy=not deployment.cloud.protected,
        )


class ContractTable(Construct):
    """A table, partitioned and clustered as `caudal.tables` says."""

    def __init__(self, scope: Construct, table: Table, dataset: Dataset, deployment: Deployment) -> None:
        super().__init__(scope, f"{table.dataset}-{table.name}")
        partitioned = {"type": "DAY", "field": table.partition_by} if table.partition_by else None
        self.resource = BigqueryTable(
            self,
            "table",
            dataset_id=dataset.resource.dataset_id,
            table_id=table.name,
            schema=json.dumps(table.bigquery_schema()),
            time_partitioning=partitioned,
            clustering=list(table.cluster_by) or None,
            deletion_protection=deployment.cloud.protected,
        )
