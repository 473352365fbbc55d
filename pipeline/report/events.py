"""What happened, from run records and the promotion ledger: one event a lane and as-of, and words for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.report.model import Event, Lane

if TYPE_CHECKING:
    from caudal.promotions import Promotion
    from pipeline.runs import RunRecord

LANE_OF_ALARM: Mapping[str, Lane] = {
    "volume": "arrival alarm",
    "freshness": "arrival alarm",
    "rejected": "arrival alarm",
    "drift": "input alarm",
    "class_drift": "input alarm",
    "missing": "input alarm",
    "unseen": "input alarm",
    "prediction_drift": "prediction alarm",
    "quality": "quality alarm",
    "training": "failed training",
    "time": "time alarm",
}


def alarms_of(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The alarms of a run, in the order in which they were raised."""
    return [alarm for step in ("inputs", "outcomes") for alarm in results.get(step, {}).get("alarms", ())]


def run_events(record: RunRecord) -> Iterator[Event]:
    """What a run tells of: alarms by lane, a training, a refusal."""
    at, results = record.run.as_of, record.results
    by_lane: dict[Lane, list[str]] = {}
    for alarm in alarms_of(results):
        by_lane.setdefault(LANE_OF_ALARM[alarm["kind"]], []).append(alarm_text(alarm))
    for lane, said in by_lane.items():
        yield Event(at, lane, ", ".join(said))
    if "train" in results:
        yield Event(at, "training", ", ".join(results.get("outcomes", {}).get("reasons", ())))
    if "validate" in results and not results["validate"]["passed"]:
        yield Event(at, "refused", str(results["validate"].get("reason", "")))


def ledger_events(history: Sequence[Promotion]) -> Iterator[Event]:
    """What the ledger tells of: trials that began and ended, and each change of what is live."""
    live = None
    for entry in history:
        if entry.role == "challenger":
            yield Event(entry.as_of, "trial", f"model {entry.version[:8]} goes on trial")
            continue
        tried = trial_verdict(entry)
        if tried is not None:
            yield Event(entry.as_of, "trial", f"model {tried[0][:8]}: {tried[1]}, {entry.evidence['reason']}")
        if entry.version != live:
            back = "rolled back to " if entry.kind == "rollback" else ""
            yield Event(entry.as_of, "promotion", f"{back}model {entry.version}")
        live = entry.version


def trial_verdict(entry: Promotion) -> tuple[str, str] | None:
    """The challenger whose trial an entry concludes, and `promoted` or `dropped`; None for other entries."""
    challenger = entry.evidence.get("challenger") if entry.role == "champion" else None
    if not isinstance(challenger, str):
        return None
    return challenger, "promoted" if entry.version == challenger else "dropped"


def alarm_text(alarm: Mapping[str, Any]) -> str:
    """An alarm in a few words, such as `drift of x 0.41`, or `class drift of x among yes 0.41`."""
    of = f" of {alarm['feature']}" if alarm.get("feature") else ""
    among = f" among {alarm['among']}" if alarm.get("among") is not None else ""
    return f"{alarm['kind'].replace('_', ' ')}{of}{among} {alarm['value']:.3g}"


def rebuilt_text(results: Mapping[str, Any]) -> str:
    """That ETL made the contract's tables anew, and why; nothing where it did not."""
    changed = results.get("etl", {}).get("rebuilt", ())
    return f"warehouse rebuilt for a change of {', '.join(changed)}" if changed else ""


def verdict_text(results: Mapping[str, Any]) -> str:
    """What became of a candidate or of a challenger's trial; nothing where there was neither."""
    said = []
    trial = results.get("outcomes", {}).get("trial") or {}
    if trial.get("verdict") in ("promote", "drop"):
        said.append(f"challenger {'promoted' if trial['verdict'] == 'promote' else 'dropped'}: {trial['reason']}")
    if "promote" in results:
        done = "on trial" if results["promote"].get("role") == "challenger" else "promoted"
        said.append(f"{done} {results['promote']['version'][:8]}")
    elif "validate" in results:
        passed = results["validate"]["passed"]
        said.append("passed" if passed else f"refused: {results['validate'].get('reason', '')}")
    return "; ".join(said)
