"""The trainer's steps: snapshot, train, validate, promote. Each can be repeated.

The candidate that is judged learns only rows before those that judge it. What goes live is the same recipe,
refitted on all due rows; its version follows from the same inputs, so the verdict can name it before it exists.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from caudal.errors import NotFound, StepFailed
from caudal.following import follow
from caudal.identity import digest, format_instant, model_version, parse_instant, unit_digest
from caudal.package.reader import ModelPackage, open_candidate, open_package
from caudal.promotions import Promotion, Promotions
from caudal.tracking import Tracking
from trainer import gate
from trainer.evaluation import evaluate, slice_columns
from trainer.packaging import UNIT, write_candidate, write_refit
from trainer.snapshot import Snapshot, open_snapshot, take_snapshot
from trainer.split import TOO_FEW_ROWS, Split, TooFew, split

if TYPE_CHECKING:
    from caudal.step import StepContext, StepResult


def snapshot(context: StepContext) -> StepResult:
    """Fixes the due, labelled rows as of the run's instant; `{snapshot, rows, uri}`."""
    started = time.perf_counter()
    champion = _champion(context)
    made = take_snapshot(
        context.contract,
        context.environment,
        context.storage,
        context.warehouse,
        as_of=context.run.as_of,
        attempt=context.run.id,
        unseen_after=_learned_until(champion),
    )
    return {"snapshot": made.id, "rows": made.rows, "uri": made.uri, "seconds": _since(started)}


def train(context: StepContext) -> StepResult:
    """Trains a candidate on the rows before those that will judge it; `{version, package, rows, seconds, ...}`.

    With too few rows there is no candidate: `version` is None, and `reason` says why; validate has an answer of
    its own for that.
    """
    started = time.perf_counter()
    contract = context.contract
    taken = _snapshot(context)
    champion = _champion(context)
    parts = split(contract, taken.event_times, _learned_until(champion))
    if isinstance(parts, TooFew):
        none = {"version": None, "package": None, "rows": 0, "reason": str(parts)}
        return {**none, "champion": champion.version if champion else None, "seconds": _since(started)}
    version = _version(context, taken, {"judged": parts.learn})
    uri = context.environment.candidates(contract.name, version)
    candidate = _existing(context, uri)
    if candidate is None:
        candidate = write_candidate(contract, context.storage, uri, version, taken, parts)
    result = {
        "version": version,
        "package": uri,
        "rows": parts.learn[1] - parts.learn[0],
        "rounds": candidate.metadata["rounds"],
        "split": parts.to_json(),
        "champion": champion.version if champion else None,
        "seconds": _since(started),
    }
    Tracking.of(context.environment).record(
        contract.name,
        f"train {context.run.id} {version}",
        name=f"train {_day(context)}",
        at=context.run.as_of,
        parameters=contract.model.parameters.model_dump(exclude_none=True),
        metrics={"rows": result["rows"], "rounds": result["rounds"], "seconds": result["seconds"]},
        tags=_tags(context, version, taken),
    )
    return result


def validate(context: StepContext) -> StepResult:
    """Scores candidate and champion on the judging rows, and judges.

    Returns:
        `{passed, verdict, reason, judged, refit, champion_version, metrics, checks, ...}`: `judged` is the version
        that was scored, `refit` the version that goes live when it passed.
    """
    started = time.perf_counter()
    contract, trained = context.contract, context.results["train"]
    nothing = {"judged": None, "refit": None, "champion_version": trained["champion"], "metrics": None}
    if trained["version"] is None:
        refusal = {"passed": False, "verdict": TOO_FEW_ROWS, "reason": trained["reason"], "reasons": []}
        return {**refusal, **nothing, "checks": [], "seconds": _since(started)}
    taken = _snapshot(context)
    parts = Split.from_json(trained["split"])
    candidate = open_candidate(context.storage, trained["package"])
    champion = _judged_against(context, trained["champion"])
    rows = taken.part(*parts.judge)
    table = rows.table()
    slices = slice_columns(contract, table)
    scoring = time.perf_counter()
    scores = candidate.score(table)
    scoring_seconds = time.perf_counter() - scoring
    one = gate.Contender(
        candidate.version, scores, candidate.threshold, _overlap(candidate, taken, parts), candidate.size
    )
    other = _contender(champion, table, taken, parts)
    verdict = gate.judge(contract, rows.labels, one, other, slices)
    figures = evaluate(contract, rows.labels, scores, candidate.threshold, slices)
    result = {
        **verdict.to_json(),
        "judged": candidate.version,
        "refit": _refit_version(context, taken, parts, candidate),
        "champion_version": champion.version if champion else None,
        "metrics": figures,
        "scoring_seconds": round(scoring_seconds, 4),
        "seconds": _since(started),
    }
    Tracking.of(context.environment).record(
        contract.name,
        f"validate {context.run.id} {candidate.version}",
        name=f"validate {_day(context)}",
        at=context.run.as_of,
        metrics={
            **{name: figure["value"] for name, figure in figures["all"].items()},
            "rows": len(rows),
            "seconds": result["seconds"],
        },
        tags={
            **_tags(context, candidate.version, taken),
            "verdict": verdict.answer,
            "reason": result["reason"],
            "champion": result["champion_version"] or "none",
        },
    )
    return result


def promote(context: StepContext) -> StepResult:
    """Refits the recipe that passed on all due rows, and enters it: `{version, entry, role, seconds}`.

    Raises:
        StepFailed: the champion is no longer the one that the candidate was judged against.
    """
    started = time.perf_counter()
    contract, environment = context.contract, context.environment
    judged, trained = context.results["validate"], context.results["train"]
    version = judged["refit"]
    promotions = _promotions(context)
    head = promotions.head()
    if head is not None and head.version not in (judged["champion_version"], version):
        raise StepFailed(
            f"the champion is {head.version}, and the candidate was judged against {judged['champion_version']}",
            where=context.run.id,
            mend="run the pipeline again: the next candidate is judged against the present champion",
        )
    taken = _snapshot(context)
    uri = environment.packages(contract.name, contract.model.type, version)
    try:
        package = open_package(context.storage, uri)
    except NotFound:
        candidate = open_candidate(context.storage, trained["package"])
        package = write_refit(
            contract,
            context.storage,
            uri,
            version,
            taken,
            Split.from_json(trained["split"]),
            candidate,
            judged["metrics"],
        )
    role = "champion" if judged["champion_version"] is None else environment.rollout
    entry = promotions.promote(
        version=version,
        model_type=contract.model.type,
        package=uri,
        as_of=context.run.as_of,
        by=f"run {context.run.id}",
        reason=_why(context),
        snapshot=taken.id,
        evidence={
            key: judged.get(key)
            for key in ("verdict", "reason", "judged", "champion_version", "metric", "candidate", "champion",
                        "difference", "rows")
        },
        commit=context.run.commit,
        role=role,
        request=context.run.id,
    )  # fmt: skip
    follow(contract, environment, promotions, _model_tags(package))
    return {"version": version, "entry": entry.number, "role": entry.role, "seconds": _since(started)}


def _version(context: StepContext, taken: Snapshot, part: dict[str, Any]) -> str:
    return model_version(taken.id, context.contract.model_digest(), unit_digest(UNIT), digest(part))


def _refit_version(context: StepContext, taken: Snapshot, parts: Split, candidate: ModelPackage) -> str:
    """Follows from the inputs alone; what the package says of its judging goes into it too."""
    said = {
        "refit": parts.refit,
        "judge": parts.judge,
        "judged": candidate.version,
        "slices": context.contract.gate.slices,
        "level": context.contract.gate.against_champion.level,
    }
    return _version(context, taken, said)


def _snapshot(context: StepContext) -> Snapshot:
    return open_snapshot(context.contract, context.storage, context.results["snapshot"]["uri"])


def _promotions(context: StepContext) -> Promotions:
    return Promotions(context.storage, context.environment.ledger(context.contract.name, "promotions"))


def _champion(context: StepContext) -> ModelPackage | None:
    """The champion of this as-of. A run that is repeated after it promoted a model sees the one before."""
    live: Promotion | None = _promotions(context).live_at(context.run.as_of)
    return None if live is None else open_package(context.storage, live.package)


def _judged_against(context: StepContext, version: str | None) -> ModelPackage | None:
    """The champion that train knew: the split keeps its rows apart, and no other's."""
    for entry in reversed(_promotions(context).history()):
        if entry.version == version:
            return open_package(context.storage, entry.package)
    return None


def _learned_until(champion: ModelPackage | None) -> datetime | None:
    return None if champion is None else parse_instant(champion.metadata["trained"]["until"])


def _existing(context: StepContext, uri: str) -> ModelPackage | None:
    try:
        return open_candidate(context.storage, uri)
    except NotFound:
        return None


def _overlap(package: ModelPackage, taken: Snapshot, parts: Split) -> int:
    """How many judging rows a package of the same snapshot has learned, by its own account."""
    start, stop = (int(position) for position in package.metadata["positions"]["learn"])
    if package.metadata["snapshot"] != taken.id:
        return parts.judge[1] - parts.judge[0]
    return max(0, min(stop, parts.judge[1]) - max(start, parts.judge[0]))


def _contender(
    champion: ModelPackage | None, table: pa.Table, taken: Snapshot, parts: Split
) -> gate.Contender | None:
    if champion is None:
        return None
    until = _learned_until(champion)
    times = taken.event_times[parts.judge[0] : parts.judge[1]]
    learned = 0 if until is None else int(np.sum(times <= np.datetime64(until.replace(tzinfo=None))))
    # A column that the contract no longer has is one that the champion would no longer be given.
    for name in champion.encoder.names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.float64()))
    return gate.Contender(champion.version, champion.score(table), champion.threshold, learned, champion.size)


def _why(context: StepContext) -> str:
    reasons = context.results.get("outcomes", {}).get("reasons") or []
    return ", ".join(reasons) or context.run.reason


def _tags(context: StepContext, version: str, taken: Snapshot) -> dict[str, str]:
    return {
        "caudal.version": version,
        "snapshot": taken.id,
        "run": context.run.id,
        "commit": context.run.commit,
        "unit": unit_digest(UNIT),
    }


def _model_tags(package: ModelPackage) -> dict[str, str]:
    trained = package.metadata["trained"]
    return {
        "trained_from": trained["from"],
        "trained_until": trained["until"],
        "rows": str(trained["rows"]),
        "judged": package.metadata["judged"]["version"],
    }


def _day(context: StepContext) -> str:
    return format_instant(context.run.as_of)[:10]


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)
