"""The gate: what a candidate must prove before it may become the champion.

Candidate and champion are scored on the same rows, which neither has learned; stored figures count for nothing.
The gate is a function of those scores and of the contract. Every check is carried out, so a verdict names all that
speaks against a candidate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from caudal import metrics
from trainer.evaluation import each_slice, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from caudal.contract import Contract

Answer = Literal["passed", "refused", "too_few_rows", "one_class"]


@dataclass(frozen=True)
class Contender:
    """One of the two models that are compared.

    Attributes:
        scores: on the judging rows.
        overlap: how many of the judging rows it has learned, which must be none.
        size: of the booster, in bytes.
    """

    version: str
    scores: NDArray[Any]
    threshold: float | None
    overlap: int = 0
    size: int = 0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        value: the figure; the bound that decided, where there is an interval.
        threshold: what the contract asks for.
    """

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    says: str


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, with every check."""

    answer: Answer
    checks: tuple[Check, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.answer == "passed"

    @property
    def reasons(self) -> list[str]:
        """What speaks against the candidate; for one that passed, what speaks for it."""
        return [check.says for check in self.checks if check.passed is self.passed]

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "verdict": self.answer,
            "reason": "; ".join(self.reasons),
            "reasons": self.reasons,
            "checks": [asdict(check) for check in self.checks],
            **self.figures,
        }


def judge(
    contract: Contract,
    labels: NDArray[Any],
    candidate: Contender,
    champion: Contender | None,
    slices: dict[str, pa.Array] | None = None,
) -> Verdict:
    """Judges a candidate.

    Args:
        labels: of the judging rows (`caudal.labels`).
        champion: None while there is none: the candidate is then judged by itself.
        slices: by column, the value of every judging row.
    """
    gate, rows = contract.gate, len(labels)
    if rows < gate.minimum_rows:
        says = f"{rows} judging rows, and {gate.minimum_rows} are needed"
        return Verdict("too_few_rows", (Check("rows", False, rows, gate.minimum_rows, says),))
    if contract.task != "regression" and len(np.unique(labels)) < 2:
        says = "all judging rows have the same label: no model can be told from another"
        return Verdict("one_class", (Check("classes", False, 1, 2, says),))
    checks = [_unseen(candidate, champion), _numbers(candidate)]
    figures: dict[str, Any] = {"rows": rows, "metric": gate.metric}
    if all(check.passed for check in checks):
        value = metrics.metric(gate.metric, contract.task, candidate.threshold)(labels, candidate.scores)
        figures["candidate"] = number(value)
        checks += _absolute(contract, labels, candidate, value)
        if champion is not None:
            checks.append(_against(contract, labels, candidate, champion, figures))
            checks += _slices(contract, labels, candidate, champion, slices or {})
    answer: Answer = "passed" if all(check.passed for check in checks) else "refused"
    return Verdict(answer, tuple(checks), figures)


def _unseen(candidate: Contender, champion: Contender | None) -> Check:
    learned = {c.version: c.overlap for c in (candidate, champion) if c is not None and c.overlap}
    if learned:
        which = ", ".join(f"{version} learned {count}" for version, count in learned.items())
        return Check("unseen", False, sum(learned.values()), 0, f"of the judging rows, {which}")
    return Check("unseen", True, 0, 0, "no judging row was learned by either model")


def _numbers(candidate: Contender) -> Check:
    bad = int((~np.isfinite(candidate.scores)).sum())
    says = f"{bad} scores are not numbers" if bad else "every score is a number"
    return Check("scores", not bad, bad, 0, says)


def _absolute(contract: Contract, labels: NDArray[Any], candidate: Contender, value: float) -> list[Check]:
    gate, way = contract.gate, metrics.sign(contract.gate.metric)
    made = []
    if gate.floor is not None:
        passed = bool(way * (value - gate.floor) >= 0)
        bound = "floor" if way > 0 else "limit"
        says = f"{gate.metric} {value:.4f}, {bound} {gate.floor:g}"
        made.append(Check("floor", passed, number(value), gate.floor, says))
    if gate.ceiling is not None:
        passed = bool(way * (gate.ceiling - value) >= 0)
        says = f"{gate.metric} {value:.4f} is {'plausible' if passed else 'too good: a feature tells the label'}"
        made.append(Check("ceiling", passed, number(value), gate.ceiling, says))
    if gate.calibration_error is not None and contract.task == "binary":
        error = metrics.calibration_error(labels, candidate.scores)
        passed = bool(error <= gate.calibration_error)
        says = f"calibration error {error:.4f}, allowed {gate.calibration_error:g}"
        made.append(Check("calibration", passed, number(error), gate.calibration_error, says))
    if gate.largest_package_bytes is not None:
        passed = candidate.size <= gate.largest_package_bytes
        says = f"the booster has {candidate.size} bytes, allowed {gate.largest_package_bytes}"
        made.append(Check("size", passed, candidate.size, gate.largest_package_bytes, says))
    return made


def _against(
    contract: Contract,
    labels: NDArray[Any],
    candidate: Contender,
    champion: Contender,
    figures: dict[str, Any],
) -> Check:
    gate, asked = contract.gate, contract.gate.against_champion
    figure = metrics.metric(gate.metric, contract.task, champion.threshold)
    difference = _difference(contract, labels, candidate, champion, None)
    figures["champion"] = number(figure(labels, champion.scores))
    figures["difference"] = {
        "value": number(difference.value),
        "low": number(difference.low),
        "high": number(difference.high),
        "level": asked.level,
    }
    passed = bool(difference.low > asked.at_least)
    kind = "superiority" if asked.at_least >= 0 else "non-inferiority"
    says = (
        f"{kind}: {gate.metric} differs from the champion's by {difference.value:+.4f} "
        f"({asked.level:.0%} interval {difference.low:+.4f} to {difference.high:+.4f}), "
        f"and the lower end must lie above {asked.at_least:+g}"
    )
    return Check("champion", passed, number(difference.low), asked.at_least, says)


def _slices(
    contract: Contract,
    labels: NDArray[Any],
    candidate: Contender,
    champion: Contender,
    slices: dict[str, pa.Array],
) -> list[Check]:
    gate, made = contract.gate, []
    for column, value, rows in each_slice(slices):
        if len(rows) < gate.slice_minimum_rows:
            continue
        difference = _difference(contract, labels, candidate, champion, rows)
        if not np.isfinite(difference.value):
            continue
        lost = difference.value < -gate.slice_allowed_loss and difference.high < 0
        says = (
            f"{column} = {value}: {gate.metric} differs by {difference.value:+.4f} "
            f"({difference.low:+.4f} to {difference.high:+.4f}), allowed loss {gate.slice_allowed_loss:g}"
        )
        made.append(
            Check(f"slice:{column}={value}", not lost, number(difference.value), -gate.slice_allowed_loss, says)
        )
    return made


def _difference(
    contract: Contract,
    labels: NDArray[Any],
    candidate: Contender,
    champion: Contender,
    rows: NDArray[Any] | None,
) -> metrics.Interval:
    asked = contract.gate.against_champion
    chosen = slice(None) if rows is None else rows
    return metrics.bootstrap_difference(
        contract.gate.metric,
        labels[chosen],
        candidate.scores[chosen],
        champion.scores[chosen],
        task=contract.task,
        thresholds=(candidate.threshold, champion.threshold),
        level=asked.level,
        samples=asked.samples,
    )
