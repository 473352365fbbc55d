"""The tables of a contract, derived from it: what the warehouse creates locally and Terraform in the cloud."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from caudal.contract.types import arrow_type

if TYPE_CHECKING:
    from caudal.contract import Contract

LAKE = "lake"
WAREHOUSE = "warehouse"
PREDICTIONS = "predictions"
MONITORING = "monitoring"
DATASETS = (LAKE, WAREHOUSE, PREDICTIONS, MONITORING)

MOST_PARTITIONS = 10_000
"""A partitioned table of BigQuery has no more: https://cloud.google.com/bigquery/quotas#partitioned_tables."""

_UTC = pa.timestamp("us", tz="UTC")

LINEAGE = (
    pa.field("_source_uri", pa.string(), nullable=False),
    pa.field("_source_generation", pa.string(), nullable=False),
    pa.field("_row", pa.int64(), nullable=False),
    pa.field("_load_id", pa.string(), nullable=False),
    pa.field("_ingested_at", _UTC, nullable=False),
)


@dataclass(frozen=True)
class Table:
    """One table: its data set and name, columns, the column that partitions it by day, and its clustering."""

    dataset: str
    name: str
    schema: pa.Schema
    partition_by: str | None = None
    cluster_by: tuple[str, ...] = ()

    @property
    def sql_name(self) -> str:
        """How SQL refers to it, in either warehouse."""
        return f"{self.dataset}.{self.name}"

    def bigquery_schema(self) -> list[dict[str, Any]]:
        """The columns as BigQuery's API spells them."""
        return [_bigquery_field(field) for field in self.schema]


def lake_table(contract: Contract) -> Table:
    """Every row as it came, typed, with its lineage; `_unparsed` holds the text of values that don't parse."""
    fields = [pa.field(name, arrow_type(column.type)) for name, column in contract.columns.items()]
    return Table(
        LAKE,
        contract.name,
        pa.schema([*fields, pa.field("_unparsed", pa.string()), *LINEAGE]),
        "_ingested_at",
        ("_load_id",),
    )


def warehouse_table(contract: Contract) -> Table:
    """One row a key, checked, with derived features.

    `_first_as_of` is the as-of of the ETL run that first committed the key, `_event_date` the event's day in the
    contract's time zone.
    """
    fields = [
        pa.field(name, arrow_type(column.type), nullable=not column.required)
        for name, column in contract.columns.items()
    ]
    derived = [
        pa.field(feature.name, pa.bool_() if feature.kind == "boolean" else pa.float64())
        for feature in contract.features.derived()
    ]
    own = [
        pa.field("_event_date", pa.date32(), nullable=False),
        pa.field("_first_as_of", _UTC, nullable=False),
    ]
    return Table(
        WAREHOUSE,
        contract.name,
        pa.schema([*fields, *derived, *own, *LINEAGE]),
        "_event_date",
        (contract.key,),
    )


def rejected_table(contract: Contract) -> Table:
    """Rows that the contract refuses, as text, each with every reason (`code:column`, in order)."""
    return Table(
        WAREHOUSE,
        f"{contract.name}_rejected",
        pa.schema(
            [
                pa.field("_reasons", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
                pa.field("_content", pa.string(), nullable=False),
                *LINEAGE,
            ]
        ),
        "_ingested_at",
        ("_load_id",),
    )


def predictions_table(contract: Contract) -> Table:
    """Each key once, scored by the champion that was live when the key first arrived.

    `score` is the probability of the positive class, the predicted value of a regression, or the probability of
    the predicted class; `prediction` is the decision at the model's threshold, as text.
    """
    return Table(
        PREDICTIONS,
        contract.name,
        pa.schema(
            [
                pa.field("key", arrow_type(contract.columns[contract.key].type), nullable=False),
                pa.field("event_time", _UTC, nullable=False),
                pa.field("event_date", pa.date32(), nullable=False),
                pa.field("score", pa.float64(), nullable=False),
                pa.field("prediction", pa.string(), nullable=False),
                pa.field("model_version", pa.string(), nullable=False),
                pa.field("as_of", _UTC, nullable=False),
            ]
        ),
        "event_date",
        ("key",),
    )


def shadow_table(contract: Contract) -> Table:
    """What a challenger says of the rows that the champion scores; like the predictions, and nobody acts on it."""
    return replace(predictions_table(contract), name=f"{contract.name}_shadow")


def served_table(contract: Contract) -> Table:
    """What servers answered, one row a line of their log; a key has one for each time it was asked about.

    `at` is when it was answered, by the server's clock; `as_of` the run that collected the line. `arm` is
    `champion`, `challenger`, or `shadow` for a score that nobody was answered with. `challenger` is the version
    that was on trial then, and `share` the chance with which it was to answer the key: null and 0 without one.

    Partitioned by `as_of`, since a client may say any event time: a load touches one partition.
    """
    return Table(
        PREDICTIONS,
        f"{contract.name}_served",
        pa.schema(
            [
                pa.field("id", pa.string(), nullable=False),
                pa.field("key", arrow_type(contract.columns[contract.key].type), nullable=False),
                pa.field("event_time", _UTC, nullable=False),
                pa.field("at", _UTC, nullable=False),
                pa.field("score", pa.float64(), nullable=False),
                pa.field("prediction", pa.string(), nullable=False),
                pa.field("model_version", pa.string(), nullable=False),
                pa.field("arm", pa.string(), nullable=False),
                pa.field("challenger", pa.string()),
                pa.field("share", pa.float64()),
                pa.field("as_of", _UTC, nullable=False),
            ]
        ),
        "as_of",
        ("key",),
    )


def monitoring_table() -> Table:
    """What the monitor measured, in long form: one row a contract, as-of, measure and feature."""
    return Table(
        MONITORING,
        "measurements",
        pa.schema(
            [
                pa.field("contract", pa.string(), nullable=False),
                pa.field("as_of", _UTC, nullable=False),
                pa.field("step", pa.string(), nullable=False),
                pa.field("model_version", pa.string()),
                pa.field("measure", pa.string(), nullable=False),
                pa.field("feature", pa.string()),
                pa.field("value", pa.float64()),
                pa.field("threshold", pa.float64()),
                pa.field("rows", pa.int64(), nullable=False),
                pa.field("alarm", pa.bool_(), nullable=False),
            ]
        ),
        "as_of",
        ("contract", "step"),
    )


def covered_table() -> Table:
    """Which loads the warehouse's tables cover, written in the commit that covers them.

    `as_of` is that of the ETL run that took the load; null where the commit was made before this was recorded.
    `rows_digests` is what the commit's rows were made by, `Contract.rows_digests` as JSON; null where that was not
    recorded yet.
    """
    return Table(
        WAREHOUSE,
        "_covered",
        pa.schema(
            [
                pa.field("contract", pa.string(), nullable=False),
                pa.field("load_id", pa.string(), nullable=False),
                pa.field("commit_id", pa.string(), nullable=False),
                pa.field("as_of", _UTC),
                pa.field("rows_digests", pa.string()),
            ]
        ),
    )


def contract_tables(contract: Contract) -> tuple[Table, ...]:
    """Every table that one contract uses, shared ones included."""
    return (
        lake_table(contract),
        warehouse_table(contract),
        rejected_table(contract),
        predictions_table(contract),
        shadow_table(contract),
        served_table(contract),
        monitoring_table(),
        covered_table(),
    )


def bigquery_type(field: pa.Field) -> tuple[str, str]:
    """A column's type and mode as BigQuery's API spells them."""
    if pa.types.is_list(field.type):
        return _BIGQUERY[field.type.value_type], "REPEATED"
    return _BIGQUERY[field.type], "NULLABLE" if field.nullable else "REQUIRED"


def _bigquery_field(field: pa.Field) -> dict[str, Any]:
    data_type, mode = bigquery_type(field)
    return {"name": field.name, "type": data_type, "mode": mode}


_BIGQUERY = {
    pa.int64(): "INTEGER",
    pa.float64(): "FLOAT",
    pa.decimal128(38, 9): "NUMERIC",
    pa.bool_(): "BOOLEAN",
    pa.string(): "STRING",
    pa.date32(): "DATE",
    _UTC: "TIMESTAMP",
}
