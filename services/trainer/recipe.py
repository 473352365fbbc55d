"""The recipe: from rows to a model with its threshold and calibration.

What a contract asks for beyond trees (when to stop, how to calibrate, where the threshold lies) can't be decided
on rows that the booster learned. So a first booster learns all but the most recent rows and decides on those; then
all rows are learned with what was decided. The refit goes by the same recipe: its most recent rows are the judging
rows, and its first booster is the candidate that they judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from caudal.metrics import cheapest_threshold
from caudal.package import Calibrator, Encoder
from trainer.boosting import fit

if TYPE_CHECKING:
    import xgboost as xgb
    from numpy.typing import NDArray

    from caudal.contract import Contract
    from trainer.snapshot import Rows


@dataclass(frozen=True)
class Decided:
    """What recent rows decided.

    Attributes:
        rounds: number of trees.
    """

    rounds: int
    threshold: float | None
    calibrator: Calibrator | None


@dataclass(frozen=True)
class Learned:
    """A model.

    Attributes:
        booster: the trees.
        encoder: how rows become its matrix.
    """

    booster: xgb.Booster
    encoder: Encoder
    decided: Decided


def learn(contract: Contract, rows: Rows) -> Learned:
    """Trains on rows, the most recent share of which decides first."""
    model = contract.model
    rounds = model.parameters.n_estimators
    encoder = Encoder.fit(contract, rows.batches())
    decided = Decided(rounds, _ideal_threshold(contract), None)
    if model.early_stopping or model.calibration or model.threshold:
        cut = len(rows) - max(1, int(len(rows) * model.recent_share))
        recent = rows.part(cut, len(rows))
        first_encoder = Encoder.fit(contract, rows.part(0, cut).batches())
        first = fit(contract, first_encoder, rows.part(0, cut), rounds, recent if model.early_stopping else None)
        raw = recent.scores(first.booster, first_encoder)
        decided = decide(contract, recent.labels, raw, first.best)
    return Learned(fit(contract, encoder, rows, decided.rounds).booster, encoder, decided)


def relearn(contract: Contract, rows: Rows, decided: Decided) -> Learned:
    """Trains on rows with what was decided before."""
    encoder = Encoder.fit(contract, rows.batches())
    return Learned(fit(contract, encoder, rows, decided.rounds).booster, encoder, decided)


def decide(contract: Contract, labels: NDArray[Any], raw: NDArray[Any], rounds: int) -> Decided:
    """Calibration and threshold from rows that the booster did not learn.

    Args:
        raw: the booster's scores of these rows.
        rounds: the number of trees of a model that learns these rows too.
    """
    model = contract.model
    calibrator, scores = None, raw
    if model.calibration is not None and len(np.unique(labels)) > 1:
        calibrator = Calibrator.fit(model.calibration, labels, raw)
        scores = calibrator.apply(raw)
    threshold = _ideal_threshold(contract)
    if model.threshold is not None:
        costs = model.threshold
        threshold = cheapest_threshold(labels, scores, costs.cost_false_positive, costs.cost_false_negative)
    return Decided(rounds, threshold, calibrator)


def _ideal_threshold(contract: Contract) -> float | None:
    if contract.task != "binary":
        return None
    costs = contract.model.threshold
    return (
        0.5
        if costs is None
        else costs.cost_false_positive / (costs.cost_false_positive + costs.cost_false_negative)
    )
