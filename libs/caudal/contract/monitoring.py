"""The contract's monitoring and retraining: what raises an alarm, and what an alarm leads to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caudal.contract.modelling import Metric
from caudal.contract.values import Duration
from caudal.yaml_document import Section

DriftMeasure = Literal["psi", "jensen_shannon", "kolmogorov_smirnov", "chi_square"]
Trigger = Literal["drift", "quality", "new_data", "code"]


class Drift(Section):
    """When a feature's recent values are too far from those that the champion was trained on."""

    measure: DriftMeasure = "psi"
    threshold: float = Field(default=0.25, gt=0)
    minimum_rows: int = Field(default=100, gt=0)


class Missing(Section):
    """How far the share of missing values of a feature may rise above the training share."""

    allowed_increase: float = Field(default=0.05, ge=0, le=1)


class OutOfRange(Section):
    """Which share of recent rows may be rejected by the contract's checks."""

    allowed_share: float = Field(default=0.01, ge=0, le=1)


class Quality(Section):
    """How far live quality may fall below the figure of the champion's validation."""

    metric: Metric = "auc"
    allowed_loss: float = Field(default=0.05, ge=0)
    minimum_rows: int = Field(default=200, gt=0)


class Monitor(Section):
    """Thresholds of the monitor; each that decides something stands here and nowhere in code."""

    drift: Drift = Drift()
    missing: Missing = Missing()
    rejected: OutOfRange = OutOfRange()
    quality: Quality = Quality()
    fresh_within: Duration | None = None


class Retrain(Section):
    """Which events lead to a retraining, and how often at most and at least.

    Attributes:
        on: the triggers that count.
        new_rows: `new_data` is so many labels that became due since the champion's training.
        at_most_every: no training follows another within this time.
        at_least_every: the schedule: a training follows at the latest after this time.
    """

    on: tuple[Trigger, ...] = ("drift", "quality", "new_data", "code")
    new_rows: int = Field(default=1000, gt=0)
    at_most_every: Duration | None = None
    at_least_every: Duration | None = None
