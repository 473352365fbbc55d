"""Drift: one histogram beside its reference, and the verdict over all that one run tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from monitor.divergence import cramers_v, discoveries, distance, jensen_shannon, p_value, psi
from monitor.independence import INDEPENDENT, DesignEffect
from monitor.measurements import Measurement

if TYPE_CHECKING:
    from caudal.alarms import AlarmKind
    from caudal.contract.monitoring import Drift
    from monitor.histograms import Histogram


@dataclass(frozen=True)
class Subject:
    """What is compared.

    Attributes:
        kind: of the alarm that a drift of it is.
        prefix: what its measures' names begin with.
        among: the class whose rows are compared; None for rows of any label.
    """

    kind: AlarmKind
    prefix: str = ""
    feature: str | None = None
    among: str | None = None


@dataclass(frozen=True)
class Tested:
    """A measurement whose alarm waits for the verdict over all tests of the run.

    Attributes:
        exceeds: the measured value is above its threshold.
        p_value: of the test that nothing has changed.
    """

    measurement: Measurement
    exceeds: bool
    p_value: float


def recent(column: str, drift: Drift, as_of: datetime) -> tuple[str, dict[str, Any]]:
    """The condition, in SQL, for rows of the drift's window that ends at this as-of."""
    if drift.window is None:
        return f"{column} = @as_of", {"as_of": as_of}
    return f"{column} > @after AND {column} <= @as_of", {"as_of": as_of, "after": as_of - drift.window}


def drift_of(
    subject: Subject,
    profile: Mapping[str, Any],
    histogram: Histogram,
    drift: Drift,
    effect: DesignEffect = INDEPENDENT,
    reference_rows: int = 0,
) -> tuple[list[Measurement], Tested | None]:
    """The distances of one histogram from its profile, and the test of the one that decides.

    Args:
        effect: by how much the rows tell less than their number says; it weakens the proof, never the distance.
        reference_rows: fewer rows in training are no yardstick.
    """
    reference, ordered = profile["counts"], profile["kind"] == "numeric"
    rows, learned = histogram.present, int(sum(reference))
    if not rows or not learned:
        return [], None

    def measured(measure: str, value: float) -> Measurement:
        return Measurement(subject.prefix + measure, value, rows, subject.feature, among=subject.among)

    values = {
        "psi": psi(reference, histogram.counts),
        "jensen_shannon": jensen_shannon(reference, histogram.counts),
        "kolmogorov_smirnov": distance("kolmogorov_smirnov", ordered)(reference, histogram.counts),
        "chi_square": cramers_v(reference, histogram.counts),
    }
    chance = p_value(drift.measure, ordered)(
        np.asarray(reference) / effect.reference, np.asarray(histogram.counts) / effect.recent
    )
    judged = rows / effect.recent >= drift.minimum_rows and learned / effect.reference >= reference_rows
    described = [measured(name, value) for name, value in values.items() if not (judged and name == drift.measure)]
    described.append(measured("p_value", chance))
    if not judged:
        return described, None
    evidence: dict[str, Any] = {
        "p_value": chance,
        "reference_rows": learned,
        "bins": len(reference),
    }
    if effect != INDEPENDENT:
        evidence["independent_rows"] = round(rows / effect.recent)
    deciding = replace(
        measured(drift.measure, values[drift.measure]),
        threshold=drift.threshold,
        kind=subject.kind,
        evidence=evidence,
    )
    return described, Tested(deciding, values[drift.measure] > drift.threshold, chance)


def verdicts(tested: Sequence[Tested], false_discovery_rate: float) -> list[Measurement]:
    """The measurements, each an alarm only where the threshold is exceeded and chance does not explain it."""
    found = discoveries([one.p_value for one in tested], false_discovery_rate)
    return [
        one.measurement if one.exceeds and real else replace(one.measurement, kind=None)
        for one, real in zip(tested, found, strict=True)
    ]
