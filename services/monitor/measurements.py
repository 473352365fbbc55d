"""What the monitor measured, as rows of `monitoring.measurements`, loaded once a run and step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from caudal.alarms import Alarm, AlarmKind, deliver
from caudal.identity import digest
from caudal.storage import join
from caudal.tables import monitoring_table

if TYPE_CHECKING:
    from caudal.step import StepContext


@dataclass(frozen=True)
class Measurement:
    """One figure.

    Attributes:
        measure: its name, such as `psi` or `missing_share`.
        value: None when the rows can't give it.
        threshold: what it is held against; None where nothing is decided by it.
        rows: how many rows it was measured on.
        kind: the kind of alarm that it raises; None for no alarm.
        evidence: what goes with the alarm.
        among: the class whose rows it was measured on; None for rows of any label.
    """

    measure: str
    value: float | None
    rows: int
    feature: str | None = None
    threshold: float | None = None
    kind: AlarmKind | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    among: str | None = None

    @property
    def name(self) -> str:
        """A name that is unique within a step: `psi.amount`."""
        return f"{self.measure}.{self.feature}" if self.feature else self.measure


def alarms_of(context: StepContext, measured: Iterable[Measurement]) -> list[Alarm]:
    """The alarms that measurements raise, in their order."""
    return [
        Alarm(
            contract=context.contract.name,
            as_of=context.run.as_of,
            kind=one.kind,
            feature=one.feature,
            value=one.value,
            threshold=one.threshold,
            evidence={"measure": one.measure, "rows": one.rows, "run": context.run.id, **one.evidence},
            among=one.among,
        )
        for one in measured
        if one.kind is not None and one.value is not None and one.threshold is not None
    ]


def record(
    context: StepContext, step: str, model_version: str | None, measured: Sequence[Measurement]
) -> list[dict[str, Any]]:
    """Loads the measurements into the warehouse and sends the alarms on their way; each once.

    Returns:
        the alarms, as a step's result says them.
    """
    contract, environment = context.contract.name, context.environment
    load_id = digest("measurements", contract, context.run.id, step)[:16]
    table = monitoring_table()
    if measured and context.warehouse.loaded(table, load_id) is None:
        staged = environment.staging(contract, "monitoring", f"{load_id}.parquet")
        with context.storage.writer(staged) as stream:
            pq.write_table(_rows(context, step, model_version, measured), stream)
        context.warehouse.load(table, [staged], load_id)
        context.storage.delete(staged)
    alarms = alarms_of(context, measured)
    record_uri = join(environment.ledger(contract, "alarms"), f"{context.run.id}-{step}.json")
    deliver(alarms, environment.alarms, context.storage, record_uri)
    return [alarm.summary() for alarm in alarms]


def _rows(context: StepContext, step: str, model_version: str | None, measured: Sequence[Measurement]) -> pa.Table:
    count = len(measured)
    columns = {
        "contract": [context.contract.name] * count,
        "as_of": [context.run.as_of] * count,
        "step": [step] * count,
        "model_version": [model_version] * count,
        "measure": [one.measure for one in measured],
        "feature": [one.feature for one in measured],
        "value": [_finite(one.value) for one in measured],
        "threshold": [one.threshold for one in measured],
        "rows": [one.rows for one in measured],
        "alarm": [one.kind is not None for one in measured],
    }
    return pa.table(columns, schema=monitoring_table().schema)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
