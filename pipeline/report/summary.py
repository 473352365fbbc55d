"""What the runs amounted to: the figures of summary.json, from run records, scored rows and the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caudal.identity import format_instant
from caudal.tables import lake_table, predictions_table, rejected_table, warehouse_table
from pipeline.report.events import alarms_of, ledger_events, trial_verdict
from pipeline.report.scored import Scored, figures

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.promotions import Promotion
    from caudal.warehouse import Warehouse
    from pipeline.runs import RunRecord


def summarise(
    contract: Contract,
    records: Sequence[RunRecord],
    scored: Scored,
    history: Sequence[Promotion],
    warehouse: Warehouse,
) -> dict[str, Any]:
    """The figures of summary.json.

    `champion` is what the system used on each row before its label was known, `frozen` the first model. Rows of
    readable files add up: landed = quarantined + lake, and lake = duplicates + rejected + removed + warehouse.
    What tells of time and not of data has a name that begins with `seconds`.
    """
    results = [record.results for record in records]
    by_run = [run_rows(record) for record in records]
    # A run that rebuilt the warehouse counted every row of the lake again.
    counting = by_run[max((i for i, run in enumerate(by_run) if run["rebuilt"]), default=0) :]
    seconds: dict[str, float] = defaultdict(float)
    for record in records:
        for name, step in record.steps.items():
            seconds[name] += step.seconds
    reasons: Counter[str] = Counter()
    for run in counting:
        reasons.update(run["rejected_by_reason"])
    return {
        "contract": contract.name,
        "as_of_first": format_instant(records[0].run.as_of),
        "as_of_last": format_instant(records[-1].run.as_of),
        "rows": {
            "landed": sum(run["rows"]["landed"] for run in by_run),
            "quarantined": sum(run["rows"]["quarantined"] for run in by_run),
            "lake": _count(warehouse, lake_table(contract).sql_name),
            "duplicates": sum(run["rows"]["duplicates"] for run in counting),
            "rejected": _count(warehouse, rejected_table(contract).sql_name),
            "removed": sum(run["rows"]["removed"] for run in counting),
            "warehouse": _count(warehouse, warehouse_table(contract).sql_name),
            "scored": _count(warehouse, predictions_table(contract).sql_name),
        },
        "rejected_by_reason": dict(sorted(reasons.items())),
        "bytes_shuffled": sum(run["bytes_shuffled"] or 0 for run in by_run),
        "by_run": by_run,
        "files_quarantined": sum(int(result.get("ingest", {}).get("files_quarantined", 0)) for result in results),
        "runs": len(records),
        "retrainings": sum("train" in result and "first_model" not in _reasons(result) for result in results),
        "candidates_refused": sum(not result["validate"]["passed"] for result in results if "validate" in result),
        "promotions": sum(event.lane == "promotion" for event in ledger_events(history)),
        "trials": _trials(history),
        "alarms": [
            {name: alarm[name] for name in ("as_of", "kind", "feature", "value", "threshold")}
            for result in results
            for alarm in alarms_of(result)
        ],
        "pooled": {
            name: {"n": len(scored), **figures(contract, scored.label, score)}
            for name, score in scored.models.items()
        },
        "quarters": [
            {
                "quarter": quarter,
                "n": len(part),
                **{name: figures(contract, part.label, score) for name, score in part.models.items()},
            }
            for quarter, part in scored.quarters().items()
        ],
        "seconds": round(sum(seconds.values()), 3),
        "seconds_by_step": {name: round(spent, 3) for name, spent in seconds.items()},
        "seconds_by_run": [{"as_of": format_instant(one.run.as_of), **run_seconds(one)} for one in records],
    }


def run_rows(record: RunRecord) -> dict[str, Any]:
    """The rows of one run by fate, refused rows by reason, the bytes that ETL shuffled, and why it rebuilt."""
    ingest, etl = record.results.get("ingest", {}), record.results.get("etl", {})
    counted, quarantined = etl.get("rows", {}), int(ingest.get("quarantined", 0))
    return {
        "as_of": format_instant(record.run.as_of),
        "rows": {
            "landed": int(ingest.get("rows", 0)) + quarantined,
            "quarantined": quarantined,
            **{
                name: int(counted.get(name, 0))
                for name in ("read", "rejected", "duplicates", "removed", "warehouse")
            },
            "scored": int(record.results.get("score", {}).get("rows", 0)),
        },
        "rebuilt": list(etl.get("rebuilt", [])),
        "rejected_by_reason": dict(etl.get("rejected", {})),
        "bytes_shuffled": etl.get("bytes_shuffled"),
    }


def run_seconds(record: RunRecord) -> dict[str, float | None]:
    """The seconds of a run's training and scoring, as the monitor measures them; None where there was none."""
    train, score = record.results.get("train", {}), record.results.get("score", {})
    return {
        "training": train.get("seconds"),
        "scoring": score.get("seconds") if score.get("rows") else None,
    }


def _reasons(result: Mapping[str, Any]) -> Sequence[str]:
    reasons: Sequence[str] = result.get("outcomes", {}).get("reasons", ())
    return reasons


def _trials(history: Sequence[Promotion]) -> dict[str, int]:
    ends = Counter(ended[1] for entry in history if (ended := trial_verdict(entry)) is not None)
    begun = sum(entry.role == "challenger" for entry in history)
    return {"begun": begun, "promoted": ends["promoted"], "dropped": ends["dropped"]}


def _count(warehouse: Warehouse, table: str) -> int:
    rows: int = warehouse.query(f"SELECT COUNT(*) AS n FROM {table}").column("n")[0].as_py()
    return rows
