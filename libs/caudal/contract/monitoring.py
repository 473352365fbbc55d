"""The contract's monitoring and retraining: what raises an alarm, and what an alarm leads to."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator, model_validator

from caudal.contract.modelling import TASK_METRICS, Metric, Task
from caudal.contract.values import Duration
from caudal.yaml_document import Section

DriftMeasure = Literal["psi", "jensen_shannon", "kolmogorov_smirnov", "chi_square"]
Trigger = Literal["drift", "quality", "new_data", "code"]
# Of several classes a prediction keeps the decision and its probability, so no figure that needs them all.
LIVE_METRICS: dict[Task, tuple[str, ...]] = {
    "binary": (*TASK_METRICS["binary"], "precision", "recall", "calibration_error"),
    "multiclass": ("accuracy", "f1"),
    "regression": TASK_METRICS["regression"],
}


class Drift(Section):
    """When recent values are too far from those that the champion was trained on.

    An alarm needs both: a distance above the threshold, and a difference that chance does not explain
    (`monitor.false_alarms`). So few rows raise no alarm by their noise, and many none by a trifle.

    Attributes:
        measure: the distance: population stability index, Jensen-Shannon distance (base 2, 0 to 1),
            Kolmogorov-Smirnov distance (total variation for categories), or `chi_square`: Cramer's V.
        threshold: the distance from which on it is an alarm.
        minimum_rows: fewer rows are not judged.
        window: judged are the rows that first arrived within this time; only the run's own when absent.
    """

    measure: DriftMeasure = "psi"
    threshold: float = Field(default=0.25, gt=0)
    minimum_rows: int = Field(default=100, gt=0)
    window: Duration | None = None


class ClassDrift(Drift):
    """When the rows of one class are too far from those of that class which the champion was trained on.

    A new kind of fraud is few among all rows and many among the frauds. Looked at is each feature among the rows
    of the positive class (of several classes: of each), once their labels are due. An alarm needs a distance and a
    proof, as for `drift`. In the proof, and for `minimum_rows`, an entity with many rows counts about once for the
    features of its windows: they are nearly the same in all of its rows.

    Attributes:
        measure: as for `drift`. Kolmogorov-Smirnov suits few rows best: empty bins don't swell it.
        threshold: the distance from which on it is an alarm.
        minimum_rows: fewer rows of the class are not judged.
        minimum_training_rows: nothing is judged by a champion that learned from fewer rows of the class: what few
            rows look like is itself far from what many do.
        window: judged are the rows whose labels became due within this time; since the run before when absent.
    """

    measure: DriftMeasure = "kolmogorov_smirnov"
    minimum_training_rows: int = Field(default=500, gt=0)


class Missing(Section):
    """How far the share of missing values of a feature may rise above the training share.

    Attributes:
        allowed_increase: of the share, from 0 to 1.
    """

    allowed_increase: float = Field(default=0.05, ge=0, le=1)


class Unseen(Section):
    """Which share of a feature's recent values may be new to the champion.

    A category is new when training did not have it, a number when it lies outside training's smallest and largest.

    Attributes:
        allowed_share: from 0 to 1.
    """

    allowed_share: float = Field(default=0.05, ge=0, le=1)


class OutOfRange(Section):
    """Which share of recent rows may be rejected by the contract's checks, be unreadable, or tell of the future.

    An event of the future lies more than a day and the environment's `schedule.every` after the as-of. A file that
    can't be read at all is an alarm in any case.

    Attributes:
        allowed_share: from 0 to 1, of rows that are rejected or unreadable together, and of those of the future.
    """

    allowed_share: float = Field(default=0.01, ge=0, le=1)


class Volume(Section):
    """How many rows a run brings, beside the median of the runs before it that brought any.

    Attributes:
        at_least: fewer than this share of the usual number is an alarm; none when absent. A run that brings
            nothing is one too, so leave it out where runs start more often than files land.
        at_most: more than this multiple of the usual number is an alarm; none when absent.
        of_last: how many of the latest runs say what is usual; with fewer than three there is no alarm.
    """

    at_least: float | None = Field(default=None, gt=0, le=1)
    at_most: float | None = Field(default=None, ge=1)
    of_last: int = Field(default=8, ge=3)


class Limit(Section):
    """Between which bounds a figure of live quality must lie, whatever the validation's was.

    An alarm needs both: a figure beyond the bound, and an interval that lies beyond it.

    Attributes:
        at_least: the lower bound; none when absent.
        at_most: the upper bound; none when absent.
    """

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Limit:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a limit needs 'at_least' or 'at_most'")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("'at_least' is above 'at_most'")
        return self


class Quality(Section):
    """How far live quality may fall below the figure of the champion's validation.

    An alarm needs both: a loss larger than allowed, and a figure clearly below the validation's (the upper bound
    of its interval).

    Attributes:
        metric: the figure that is held against the validation's; others are measured beside it. When absent, `auc`
            of a binary task, `accuracy` of a multiclass one, `rmse` of a regression.
        allowed_loss: in the metric's own unit.
        limits: fixed bounds by metric: those of the task (of a multiclass one `accuracy` and `f1`, as predictions
            keep the decision and its probability alone), and for a binary one `precision`, `recall` and
            `calibration_error` too.
        minimum_rows: judged are the predictions whose labels became due since the run before; when they are
            fewer than this, the champion's latest due predictions up to this number; with fewer still, none.
        maximum_rows: at most so many of the latest predictions are judged.
        level: the interval's two-sided level.
        samples: bootstrap samples.
    """

    metric: Metric | None = None
    allowed_loss: float = Field(default=0.05, ge=0)
    limits: dict[str, Limit] = Field(default_factory=dict)
    minimum_rows: int = Field(default=200, gt=0)
    maximum_rows: int = Field(default=100_000, gt=0)
    level: float = Field(default=0.90, gt=0.5, lt=1)
    samples: int = Field(default=200, ge=100)


class Time(Section):
    """How long the model's own work may take.

    Attributes:
        training: one training, as the run that follows it measures it; no alarm when absent.
        scoring: the scoring of one run's rows; no alarm when absent.
    """

    training: Duration | None = None
    scoring: Duration | None = None


class Trial(Section):
    """How a challenger is held against the champion while it is on trial.

    What is compared is the loss of each due row: the Brier score of a binary task, the error rate of a multiclass
    one, the squared error of a regression. It may be looked at after every run: the intervals hold at all times
    together (a confidence sequence). There are two comparisons: paired, on the rows that both score, and by the
    live answers of each, where the environment gives the challenger a share of them. The challenger is promoted as
    soon as it is proven to lose at most (1 + margin) times what the champion loses, by live answers where there
    are any; it is dropped as soon as either comparison proves it to be worse, or when the time is up.

    Attributes:
        level: of the confidence sequences of a trial together.
        margin: by which share of the champion's loss a challenger may be worse; 0 asks for proven superiority.
        minimum_rows: nothing is decided on fewer; with live answers, on fewer in either arm.
        minimum_of_each_class: nothing is decided on fewer rows of either class of a binary task; with live
            answers, on fewer in either arm. A proof asks for independent rows, and positives come in bunches: of
            one stolen card, one broken terminal.
        at_most: how long a trial lasts, counted from when the first of its labels can be due: `label.due_after`
            after it began.
    """

    level: float = Field(default=0.95, gt=0.5, lt=1)
    margin: float = Field(default=0.02, ge=0)
    minimum_rows: int = Field(default=500, ge=100)
    minimum_of_each_class: int = Field(default=50, ge=0)
    at_most: Duration = Field(default="90d", validate_default=True)


class Monitor(Section):
    """Thresholds of the monitor; each that decides something stands here and nowhere in code.

    Attributes:
        drift: of each feature.
        prediction_drift: of the champion's scores.
        class_drift: of each feature among the rows of one class; not measured when absent.
        fresh_within: the newest event that is not after the as-of may be so old; where none ever came, the
            contract's first run may lie so far back. No alarm when absent.
        remind_every: an alarm that stands is told when it begins and when it ends, and again after each such time.
        false_alarms: the false discovery rate (Benjamini-Hochberg) over all that a step tests feature by feature.
            A run has two such steps, `inputs` and `outcomes`: when nothing has changed, the chance that either
            raises such an alarm is at most twice this.
    """

    drift: Drift = Drift()
    prediction_drift: Drift = Drift()
    class_drift: ClassDrift | None = None
    missing: Missing = Missing()
    unseen: Unseen = Unseen()
    rejected: OutOfRange = OutOfRange()
    volume: Volume = Volume()
    quality: Quality = Quality()
    trial: Trial = Trial()
    time: Time = Time()
    fresh_within: Duration | None = None
    remind_every: Duration = Field(default="7d", validate_default=True)
    false_alarms: float = Field(default=0.01, gt=0, lt=1)

    @field_validator("remind_every")
    @classmethod
    def _some_time(cls, length: timedelta) -> timedelta:
        if not length:
            raise ValueError("a reminder needs some time, such as 7d, to have passed")
        return length


class Budget(Section):
    """How many trainings there may be.

    Attributes:
        trainings: so many attempts, whatever came of them.
        within: in any stretch of this length.
    """

    trainings: int = Field(default=12, gt=0)
    within: Duration = Field(default="90d", validate_default=True)


class Retrain(Section):
    """Which events lead to a retraining, and how often at most and at least.

    An alarm that stands asks for a training in every run. The pause and the budget keep that from being a loop.

    Attributes:
        on: the triggers that count. `drift` is drift of a feature, of a class or of the predictions, `code` a
            change of the trainer's code or of the contract's sections that decide the model since the last
            training that did not fail.
        new_rows: `new_data` is so many labels that became due since the last training that did not fail.
        at_most_every: no training follows another within this time, whatever came of the other; `null` for no
            pause.
        at_least_every: the schedule: a training follows at the latest after this time, a failed one not counted.
        budget: a bound on what trainings may cost; `null` for none.
    """

    on: tuple[Trigger, ...] = ("drift", "quality", "new_data", "code")
    new_rows: int = Field(default=1000, gt=0)
    at_most_every: Duration | None = Field(default="7d", validate_default=True)
    at_least_every: Duration | None = None
    budget: Budget | None = Budget()
