"""What the monitor measured, as rows of `monitoring.measurements`, loaded once a run and step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from caudal.alarms import AlarmKind, deliver
from caudal.identity import digest, run_id
from caudal.storage import join
from caudal.tables import monitoring_table
from monitor.standing import alarms_of, stood_before

if TYPE_CHECKING:
    from caudal.step import StepContext


@dataclass(frozen=True)
class Measurement:
    """One figure.

    Attributes:
        measure: its name, such as `psi` or `missing_share`.
        value: None when the rows can't give it.
        threshold: what it is held against; None where nothing is decided by it. An alarm that stands ends with the
            first figure that has a threshold and raises none.
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


def time_taken(measure: str, seconds: float, rows: int, allowed: timedelta | None) -> Measurement:
    """Some work's time in seconds, an alarm where it took longer than allowed."""
    if allowed is None:
        return Measurement(measure, seconds, rows)
    limit = allowed.total_seconds()
    return Measurement(measure, seconds, rows, None, limit, "time" if seconds > limit else None)


def record(
    context: StepContext, step: str, model_version: str | None, measured: Sequence[Measurement]
) -> dict[str, list[dict[str, Any]]]:
    """Sends the alarms on their way and loads the measurements into the warehouse; each once.

    Alarms go first: what stands in the measurements is taken for delivered by the runs that follow.

    Returns:
        `alarms`, everything that is wrong at this as-of, new or not, and `ended`, what no longer is; both as a
        step's result says them.
    """
    contract, environment = context.contract.name, context.environment
    found = list(alarms_of(context, model_version, measured, stood_before(context, step)))
    # One record an as-of: a further run of the same as-of finds the same, and must not say it again.
    record_uri = join(environment.ledger(contract, "alarms"), f"{run_id(context.run.as_of)}-{step}.json")
    deliver([alarm for alarm in found if alarm.told], environment.alarms, context.storage, record_uri)
    load_id = digest("measurements", contract, context.run.id, step)[:16]
    table = monitoring_table()
    if measured and context.warehouse.loaded(table, load_id) is None:
        staged = environment.staging(contract, "monitoring", f"{load_id}.parquet")
        with context.storage.writer(staged) as stream:
            pq.write_table(_rows(context, step, model_version, measured), stream)
        context.warehouse.load(table, [staged], load_id)
        context.storage.delete(staged)
    return {
        "alarms": [alarm.summary() for alarm in found if alarm.state != "ended"],
        "ended": [alarm.summary() for alarm in found if alarm.state == "ended"],
    }


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
