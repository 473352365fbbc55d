"""From rows to packages: the candidate that is judged, and the refit that goes live.

Training is imported only when there is something to train: the steps beside it start without XGBoost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caudal.identity import unit_digest
from caudal.labels import classes
from caudal.package.reader import ModelPackage, raw_scores
from caudal.package.writer import PackageContent, write_package
from caudal.profile import profile

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.storage import Storage
    from trainer.recipe import Decided
    from trainer.snapshot import Rows, Snapshot
    from trainer.split import Split

UNIT = "trainer"
_PARITY_ROWS = 8192


def write_candidate(
    contract: Contract, storage: Storage, uri: str, version: str, taken: Snapshot, parts: Split
) -> ModelPackage:
    """Trains on the rows before the judging rows, and writes the candidate."""
    from trainer.recipe import learn

    rows = taken.part(*parts.learn)
    learned = learn(contract, rows)
    metadata = {
        **_metadata(contract, version, taken, rows, learned.decided),
        "positions": {"learn": list(parts.learn)},
    }
    booster = bytes(learned.booster.save_raw("ubj"))
    counted = profile(contract, rows, labels=rows.labels)
    content = PackageContent(contract, booster, None, learned.encoder, metadata, counted)
    return write_package(storage, uri, content)


def write_refit(
    contract: Contract,
    storage: Storage,
    uri: str,
    version: str,
    taken: Snapshot,
    parts: Split,
    candidate: ModelPackage,
    metrics: dict[str, Any],
) -> ModelPackage:
    """Trains by the candidate's recipe on all due rows, and writes the package that is served.

    Args:
        metrics: the candidate's figures on the judging rows; the refit has learned those, and has none of its own.
    """
    from caudal.package.onnx import prove_parity, to_onnx
    from trainer.recipe import decide, relearn

    judging, rows = taken.part(*parts.judge), taken.part(*parts.refit)
    raw = judging.scores(candidate.booster, candidate.encoder)
    decided = decide(contract, judging.labels, raw, candidate.metadata["rounds"])
    learned = relearn(contract, rows, decided)
    onnx = to_onnx(learned.booster)
    for batch in judging.batches(min(_PARITY_ROWS, learned.encoder.rows_at_once())):
        expected = raw_scores(learned.booster, learned.encoder, batch)
        prove_parity(onnx, learned.encoder.encode(batch), expected)
    metadata = {
        **_metadata(contract, version, taken, rows, decided),
        "judged": {
            **judging.period(),
            "version": candidate.version,
            "rows": len(judging),
            "threshold": candidate.threshold,
            "level": contract.gate.against_champion.level,
        },
        "metrics": metrics,
        "positions": parts.to_json(),
    }
    scores = raw if decided.calibrator is None else decided.calibrator.apply(raw)
    booster = bytes(learned.booster.save_raw("ubj"))
    counted = profile(contract, rows, scores, rows.labels)
    content = PackageContent(contract, booster, onnx, learned.encoder, metadata, counted)
    return write_package(storage, uri, content)


def _metadata(contract: Contract, version: str, taken: Snapshot, rows: Rows, decided: Decided) -> dict[str, Any]:
    return {
        "version": version,
        "contract": contract.name,
        "model_digest": contract.model_digest(),
        "type": contract.model.type,
        "task": contract.task,
        "classes": list(classes(contract)),
        "unit": unit_digest(UNIT),
        "snapshot": taken.id,
        "trained": {**rows.period(), "rows": len(rows)},
        "parameters": contract.model.parameters.model_dump(exclude_none=True),
        "rounds": decided.rounds,
        "threshold": decided.threshold,
        "calibration": decided.calibrator.to_json() if decided.calibrator else None,
    }
