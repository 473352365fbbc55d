"""The contract's label, model and gate: what is learned, how, and what a candidate must prove."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caudal.contract.values import Duration
from caudal.yaml_document import Section

Task = Literal["binary", "multiclass", "regression"]
Metric = Literal["auc", "average_precision", "log_loss", "brier", "accuracy", "f1", "rmse", "mae", "r2"]


class Label(Section):
    """What the model predicts, and how long after the event it is known.

    Attributes:
        column: the column that holds the label, in the row or in a later version of it.
        positive: for a binary task, the value that counts as 1.
        due_after: a label counts only when this much time has passed since the event.
    """

    column: str
    positive: str | None = None
    due_after: Duration


class XgboostParameters(Section):
    """XGBoost's own names; what is not said here keeps the defaults written here, never XGBoost's."""

    n_estimators: int = Field(default=200, gt=0)
    max_depth: int = Field(default=6, ge=0)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    subsample: float = Field(default=1.0, gt=0, le=1)
    colsample_bytree: float = Field(default=1.0, gt=0, le=1)
    colsample_bylevel: float = Field(default=1.0, gt=0, le=1)
    colsample_bynode: float = Field(default=1.0, gt=0, le=1)
    min_child_weight: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=0.0, ge=0)
    reg_alpha: float = Field(default=0.0, ge=0)
    reg_lambda: float = Field(default=1.0, ge=0)
    max_delta_step: float = Field(default=0.0, ge=0)
    max_bin: int = Field(default=256, ge=2)
    max_leaves: int = Field(default=0, ge=0)
    grow_policy: Literal["depthwise", "lossguide"] = "depthwise"
    tree_method: Literal["hist", "exact", "approx"] = "hist"
    base_score: float | None = None
    scale_pos_weight: float = Field(default=1.0, gt=0)
    seed: int = 0


class TrainOn(Section):
    """Which due rows a training uses.

    Attributes:
        latest: at most so many of the most recent rows; all when absent.
        minimum: no model is trained on fewer.
        judge_share: without a champion, this most recent share of the rows judges the candidate.
    """

    latest: int | None = Field(default=None, gt=0)
    minimum: int = Field(default=1000, gt=0)
    judge_share: float = Field(default=0.25, gt=0, lt=1)


class ThresholdCosts(Section):
    """What a wrong decision costs; only the ratio matters."""

    cost_false_positive: float = Field(gt=0)
    cost_false_negative: float = Field(gt=0)


class Model(Section):
    """How a candidate is trained."""

    type: Literal["xgboost"] = "xgboost"
    parameters: XgboostParameters = XgboostParameters()
    train_on: TrainOn = TrainOn()
    threshold: ThresholdCosts | None = None


class AgainstChampion(Section):
    """What the paired bootstrap interval of (candidate - champion) must show.

    Attributes:
        at_least: the interval's lower bound must lie above this. Above 0 or at 0 is superiority; below 0 is
            non-inferiority by that margin.
        level: the interval's two-sided level.
        samples: bootstrap samples.
    """

    at_least: float
    level: float = Field(default=0.90, gt=0.5, lt=1)
    samples: int = Field(default=1000, ge=100)


class Gate(Section):
    """What a candidate must prove on rows that neither it nor the champion was trained on."""

    metric: Metric
    floor: float | None = None
    against_champion: AgainstChampion
    minimum_rows: int = Field(default=500, gt=0)
    slices: tuple[str, ...] = ()
    slice_allowed_loss: float = Field(default=0.05, ge=0)
    slice_minimum_rows: int = Field(default=100, gt=0)
    calibration_error: float | None = Field(default=None, gt=0)
