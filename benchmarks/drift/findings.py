"""What a detector would have said of recorded figures, and how soon after a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitor.divergence import discoveries


@dataclass(frozen=True)
class Figure:
    """What one run measured of one feature.

    Attributes:
        among: the class whose rows it is about; empty for all rows.
        distances: by name.
        p_value: of the contract's test.
        judged: the rows were enough.
    """

    feature: str
    among: str
    distances: Mapping[str, float]
    p_value: float
    judged: bool

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "distances": dict(self.distances)}


@dataclass(frozen=True)
class Look:
    """One run's figures, and the alarms that it raised: kind and feature."""

    as_of: datetime
    figures: Sequence[Figure]
    alarms: Sequence[tuple[str, str | None]]

    @property
    def has_champion(self) -> bool:
        """Whether there was something to compare with."""
        return bool(self.figures)

    def judged(self, of_class: bool) -> list[Figure]:
        """The figures that had rows enough: of all rows, or of those of a class."""
        return [one for one in self.figures if one.judged and bool(one.among) == of_class]


@dataclass(frozen=True)
class Detector:
    """A distance beside the contract's own.

    Attributes:
        false_alarms: the contract's false discovery rate.
        of_class: whether it looks at the rows of a class, or at all rows.
    """

    distance: str
    threshold: float
    false_alarms: float
    of_class: bool = False

    def judges(self, look: Look) -> bool:
        """Whether it had rows enough to say anything."""
        return bool(look.judged(self.of_class))

    def names(self, look: Look) -> tuple[str, ...]:
        """The features that it names: a distance above the threshold, and not by chance."""
        judged = look.judged(self.of_class)
        proven = discoveries([one.p_value for one in judged], self.false_alarms)
        found = (
            one.feature
            for one, real in zip(judged, proven, strict=True)
            if real and one.distances[self.distance] > self.threshold
        )
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Raised:
    """What the contract itself raises: alarms of one kind."""

    kind: str

    def judges(self, look: Look) -> bool:
        """Whether there was a champion, and enough of a class where the alarm is about one."""
        return bool(look.judged(True)) if self.kind == "class_drift" else look.has_champion

    def names(self, look: Look) -> tuple[str, ...]:
        return tuple(dict.fromkeys(feature or "the model" for kind, feature in look.alarms if kind == self.kind))


@dataclass(frozen=True)
class Silence:
    """Looks at a stream in which nothing changes.

    Attributes:
        looks: how many could judge.
        alarms: those that named something.
        features: what they named.
    """

    looks: int
    alarms: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """The first alarm after a change: days from the change to the run, and the features that it names."""

    delay: int
    features: tuple[str, ...]


def silence(looks: Sequence[Look], detector: Detector | Raised) -> Silence:
    """Counts false alarms: every alarm is one."""
    named = [detector.names(look) for look in looks if detector.judges(look)]
    loud = [features for features in named if features]
    return Silence(len(named), len(loud), tuple(sorted({feature for features in loud for feature in features})))


def finding(
    looks: Sequence[Look], detector: Detector | Raised, changed: datetime, within: timedelta
) -> Finding | None:
    """The first alarm after a change; None when there is none in time."""
    for look in sorted(_after(looks, changed, within), key=lambda look: look.as_of):
        features = detector.names(look)
        if features:
            return Finding((look.as_of - changed).days, features)
    return None


def _after(looks: Sequence[Look], changed: datetime, within: timedelta) -> Iterator[Look]:
    return (look for look in looks if changed < look.as_of <= changed + within)
