"""The contract's label, model and gate: what is learned, how, and what a candidate must prove."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from caudal.contract.values import Duration
from caudal.yaml_document import Section

Task = Literal["binary", "multiclass", "regression"]
Metric = Literal["auc", "average_precision", "log_loss", "brier", "accuracy", "f1", "rmse", "mae", "r2"]
TASK_METRICS: dict[Task, tuple[Metric, ...]] = {
    "binary": ("auc", "average_precision", "log_loss", "brier", "accuracy", "f1"),
    "multiclass": ("auc", "log_loss", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
}


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
    """XGBoost's own names; what is not said here keeps the defaults written here, never XGBoost's.

    Attributes:
        n_estimators: trees, or the most of them with early stopping.
        max_depth: levels of a tree; 0 is no limit.
        learning_rate: how much each tree counts.
        subsample: share of rows that a tree sees.
        colsample_bytree: share of columns that a tree sees.
        colsample_bylevel: share of columns that a level sees.
        colsample_bynode: share of columns that a split sees.
        min_child_weight: the least weight of rows in a leaf.
        gamma: the least gain of a split.
        reg_alpha: L1 penalty of leaf values.
        reg_lambda: L2 penalty of leaf values.
        max_delta_step: the largest leaf value; 0 is no limit.
        max_bin: bins of a numeric column.
        max_leaves: leaves of a tree; 0 is no limit.
        max_cat_to_onehot: categories up to which each is split off alone.
        max_cat_threshold: categories that a split considers.
        grow_policy: which leaf is split next.
        tree_method: how splits are found.
        base_score: the score before the first tree; estimated from the labels when absent.
        scale_pos_weight: weight of a positive row; `balanced` makes both classes weigh the same.
        seed: of the sampling.
    """

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
    max_cat_to_onehot: int = Field(default=4, gt=0)
    max_cat_threshold: int = Field(default=64, gt=0)
    grow_policy: Literal["depthwise", "lossguide"] = "depthwise"
    tree_method: Literal["hist", "exact", "approx"] = "hist"
    base_score: float | None = None
    scale_pos_weight: float | Literal["balanced"] = 1.0
    seed: int = 0

    @field_validator("scale_pos_weight")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and value <= 0:
            raise ValueError("a weight must be above 0")
        return value


class TrainOn(Section):
    """Which due rows a training uses.

    Attributes:
        latest: at most so many of the most recent rows; all when absent.
        minimum: no model is trained on fewer.
        first: the first model waits for so many due rows; `minimum` when absent.
        judge_share: of the rows that no champion has learned, this most recent share judges the candidate (at
            least `gate.minimum_rows`); it learns the others. Were it judged on all of them, it would have learned
            what the champion knows and nothing new.
    """

    latest: int | None = Field(default=None, gt=0)
    minimum: int = Field(default=1000, gt=0)
    first: int | None = Field(default=None, gt=0)
    judge_share: float = Field(default=0.25, gt=0, lt=1)

    @property
    def rows_for_first(self) -> int:
        """How many due rows the first model waits for."""
        return self.first if self.first is not None else self.minimum


class ThresholdCosts(Section):
    """What a wrong decision costs; only the ratio matters.

    Attributes:
        cost_false_positive: of acting on a row that is negative.
        cost_false_negative: of not acting on a row that is positive.
    """

    cost_false_positive: float = Field(gt=0)
    cost_false_negative: float = Field(gt=0)


class EarlyStopping(Section):
    """Stops adding trees when the recent rows no longer gain.

    Attributes:
        rounds: so many trees without a gain end the training; `n_estimators` is the most.
    """

    rounds: int = Field(gt=0)


class Search(Section):
    """What `caudal tune` tries: a range for a number, a list for a choice; the contract itself is trial 0.

    Attributes:
        seed: of the sampler.
        space: by XGBoost's names; `[low, high]` for numbers, more or other values as a list of choices.
        log: parameters that are searched on a logarithmic scale.
        trials: how many settings are tried.
        folds: time-ordered folds; each trains on the rows before those that judge it.
        metric: what is to be best; the gate's when absent.
    """

    space: dict[str, tuple[float | str, ...]] = Field(min_length=1)
    log: tuple[str, ...] = ("learning_rate",)
    trials: int = Field(default=30, gt=0)
    folds: int = Field(default=4, gt=0)
    metric: Metric | None = None
    seed: int = 0


class Model(Section):
    """How a candidate is trained.

    Attributes:
        type: the kind of model.
        calibration: how scores are made probabilities, learned on the recent share; none when absent.
        monotone: features whose growth may only raise, or only lower, the score.
        recent_share: the most recent share of the training rows. A model trained on the rest decides on them when
            to stop, how to calibrate, and where the threshold lies; then all training rows are learned.
        external_memory_above: with more training rows than this, XGBoost keeps its matrix on disk.
    """

    type: Literal["xgboost"] = "xgboost"
    parameters: XgboostParameters = XgboostParameters()
    monotone: dict[str, Literal["increasing", "decreasing"]] = Field(default_factory=dict)
    train_on: TrainOn = TrainOn()
    recent_share: float = Field(default=0.2, gt=0, lt=1)
    early_stopping: EarlyStopping | None = None
    calibration: Literal["sigmoid", "isotonic"] | None = None
    threshold: ThresholdCosts | None = None
    external_memory_above: int = Field(default=10_000_000, gt=0)
    search: Search | None = None


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
    """What a candidate must prove on rows that neither it nor the champion was trained on.

    Attributes:
        metric: the figure that decides.
        floor: the metric must be at least (for losses: at most) this.
        ceiling: a metric better than this is not believed: the label has leaked.
        minimum_rows: fewer unseen rows are no verdict.
        slices: columns; in none of their values may the candidate lose clearly to the champion.
        slice_allowed_loss: how much worse a slice may be. One that lost more is a reason to refuse, unless its
            paired interval holds 0: small slices are noisy.
        slice_minimum_rows: smaller slices are reported, not judged.
        calibration_error: the largest expected calibration error.
        largest_package_bytes: a larger booster is refused.
    """

    metric: Metric
    floor: float | None = None
    ceiling: float | None = None
    against_champion: AgainstChampion
    minimum_rows: int = Field(default=500, gt=0)
    slices: tuple[str, ...] = ()
    slice_allowed_loss: float = Field(default=0.05, ge=0)
    slice_minimum_rows: int = Field(default=100, gt=0)
    calibration_error: float | None = Field(default=None, gt=0)
    largest_package_bytes: int | None = Field(default=None, gt=0)
