"""How often a trial proves what is not so: simulated trials, judged by the monitor's own code after every look.

    python -m benchmarks.trial                    # prints the figures of decision 12; some minutes
    python -m benchmarks.trial --samples 400

Losses are Brier scores. Each takes one of two values within its class, so a look is one draw of counts, and
millions of rows cost no more than hundreds. Seeded: it prints the same again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caudal.contract.monitoring import Trial
from monitor.live_arms import LiveArm, LiveArms
from monitor.paired import Paired
from monitor.sequential import Arm
from monitor.trial import judge

Numbers = NDArray[np.float64]
Kind = Literal["equal", "even", "even, the other way", "blind spot", "worse", "at the margin", "better"]

RATES = (0.001, 0.002, 0.0085, 0.1, 0.3)
SHARES = (None, 0.05, 0.1, 0.5)
NULL: tuple[Kind, ...] = ("equal", "even", "even, the other way", "blind spot")
WORSE: tuple[Kind, ...] = ("worse", "at the margin")
LOOKS = 50
MARGIN = Trial().margin


@dataclass(frozen=True)
class Scenario:
    """One kind of trial.

    Attributes:
        kind: `equal`: the same model. `even`: as good, better on negatives and worse on positives. `blind spot`:
            as good, better on negatives and much worse on one in twenty positives. `worse`: loses 1.6 times as
            much, but less on negatives. `at the margin`: so too, just as much as the margin allows. `better`: the
            champion is to it what the challenger of `worse` is to the champion.
        rate: of positives.
        share: of live answers that the challenger gives; None compares pairs alone.
        bunch: positives come in bunches of so many alike.
    """

    kind: Kind
    rate: float
    share: float | None = None
    bunch: int = 1

    @property
    def looks(self) -> NDArray[np.int64]:
        """How many rows each look adds.

        The first has the fewest rows that decide in the smaller arm, the last some 300 positives there and at
        least 25,000 rows; between them sizes grow by a factor, so that any number of positives is looked at early.
        """
        smaller = 1.0 if self.share is None else min(self.share, 1 - self.share)
        sizes = np.geomspace(Trial().minimum_rows, max(25_000, 300 / self.rate), LOOKS) / smaller
        ends = np.ceil(sizes).astype(np.int64)
        return np.concatenate((ends[:1], ends[1:] - ends[:-1]))

    @property
    def margin(self) -> float:
        return MARGIN if self.kind == "at the margin" else 0.0

    @property
    def spread(self) -> float:
        """By which share errors within a class differ."""
        return 0.05 if self.kind == "blind spot" else 0.3

    def losses(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean losses of the champion and of the challenger: on negatives, on most positives, on one in twenty."""
        usual = (0.2 * self.rate, 0.2)
        mean = (1 - self.rate) * usual[0] + self.rate * usual[1]

        def never_on_negatives(times: float) -> tuple[float, float]:
            return 0.0, times * mean / self.rate

        if self.kind == "blind spot":
            gained = 0.7 * self.rate / 20 / (1 - self.rate)
            return (gained, 0.2, 0.2), (0.0, 0.2, 0.9)
        champion, challenger = {
            "equal": (usual, usual),
            "even": (usual, never_on_negatives(1)),
            "even, the other way": (never_on_negatives(1), usual),
            "worse": (usual, never_on_negatives(1.6)),
            "at the margin": (usual, never_on_negatives(1 + MARGIN)),
            "better": (never_on_negatives(1.6), usual),
        }[self.kind]
        return (*champion, champion[1]), (*challenger, challenger[1])


@dataclass(frozen=True)
class Rule:
    """How trials are judged.

    Attributes:
        bounded: it is known that no loss is above 1.
    """

    name: str
    bounded: bool
    minimum_of_each_class: int


RULES = (
    Rule("asymptotic", False, 0),
    Rule("asymptotic, 50 of each class", False, 50),
    Rule("shipped", True, Trial().minimum_of_each_class),
)


def looks(generator: np.random.Generator, scenario: Scenario) -> Iterator[tuple[Paired, LiveArms | None]]:
    """What one trial has seen after each look."""
    share = 0.0 if scenario.share is None else scenario.share
    champion, challenger = scenario.losses()
    # Each combination of label, both models' noise, and arm.
    cells = [
        (
            float(group > 0),
            _noisy(champion[group], scenario.spread, first),
            _noisy(challenger[group], scenario.spread, second),
            float(arm),
            part / 4 * (share if arm else 1 - share),
        )
        for group, part in enumerate((1 - scenario.rate, 0.95 * scenario.rate, 0.05 * scenario.rate))
        for first in (-1, 1)
        for second in (-1, 1)
        for arm in (0, 1)
    ]
    y, a, b, arm_, chance = np.array(cells).T
    bunches = np.where(y == 1, scenario.bunch, 1)
    chances = chance / bunches
    # The last cell is no row: a bunch is one draw and several rows.
    drawn = generator.multinomial(scenario.looks, [*chances, max(1 - chances.sum(), 0.0)])
    counts = np.cumsum(drawn[:, :-1] * bunches, axis=0)
    pairs = counts @ np.stack([a, b, a * a, b * b, a * b], axis=1)
    rows, positives = counts.sum(axis=1), counts @ y
    arms = [
        (counts * (arm_ == number)) @ np.stack([np.ones_like(y), x, x * x, y], axis=1)
        for number, x in enumerate((a, b))
    ]
    for n in range(LOOKS):
        a_, b_, aa, bb, ab = map(float, pairs[n])
        paired = Paired(int(rows[n]), a_, b_, aa, bb, ab, positives=int(positives[n]))
        answered = None
        if scenario.share is not None:
            answered = LiveArms(_arm(arms[0][n], 1 - share), _arm(arms[1][n], share))
        yield paired, answered


def _noisy(mean: float, spread: float, way: int) -> float:
    """One of two losses around a mean: of an error that is larger or smaller by the spread."""
    return mean * (1 + way * spread) ** 2 / (1 + spread**2)


def _arm(seen: Numbers, p: float) -> LiveArm:
    rows, total, squares, positives = map(float, seen)
    arm = Arm(int(rows), rows / p, total / p, rows / p**2, total / p**2, squares / p**2, 1 / p)
    return LiveArm(int(rows), arm, int(positives))


def ends(scenario: Scenario, rules: Sequence[Rule], samples: int, seed: int = 1) -> dict[str, dict[str, float]]:
    """By rule: the share of trials that promoted the challenger, and of those that dropped it, at any look."""
    generator = np.random.default_rng(seed)
    found = {rule.name: {"promote": 0.0, "drop": 0.0} for rule in rules}
    trials = {
        rule: Trial(margin=scenario.margin, minimum_of_each_class=rule.minimum_of_each_class) for rule in rules
    }
    for _ in range(samples):
        undecided = list(rules)
        for paired, live in looks(generator, scenario):
            if not _tells_anything(paired, live, scenario.margin):
                continue
            for rule in list(undecided):
                verdict = _verdict(paired, live, rule, trials[rule])
                if verdict != "go on":
                    found[rule.name][verdict] += 1 / samples
                    undecided.remove(rule)
            if not undecided:
                break
    return found


def _tells_anything(paired: Paired, live: LiveArms | None, margin: float) -> bool:
    """Whether a mean is two standard errors from 0: no rule's bounds are as narrow, and judging takes time."""
    sums = (one.advantage(m) for one in (paired, live) if one is not None for m in {0.0, margin})
    return any(abs(one.total) > 2 * sqrt(one.squares) for one in sums)


def _verdict(paired: Paired, live: LiveArms | None, rule: Rule, trial: Trial) -> str:
    largest = 1.0 if rule.bounded else inf
    known = None if live is None else replace(live, largest=largest)
    return judge(replace(paired, largest=largest), known, trial, False).verdict


def false_proofs(rate: float, share: float | None, samples: int, bunch: int = 1) -> dict[str, float]:
    """By rule: the largest share of false proofs over all kinds of challengers."""
    worst = {rule.name: 0.0 for rule in RULES}
    for kind in (*NULL, *WORSE):
        found = ends(Scenario(kind, rate, share, bunch), RULES, samples)
        for name, shares in found.items():
            wrong = shares["promote"] + (shares["drop"] if kind in NULL else 0.0)
            worst[name] = max(worst[name], wrong)
    return worst


def _line(cells: Sequence[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the largest share of false proofs, and how many better challengers are promoted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trial", description=__doc__)
    parser.add_argument("--samples", type=int, default=100, help="trials of each kind (100)")
    samples = parser.parse_args(arguments).samples
    error = 100 * sqrt(0.05 * 0.95 / samples)
    print(f"{samples} trials of each kind, {LOOKS} looks each; a share of 5 % is known to {error:.1f} points.\n")
    _line(
        ["positives", "share", "bunch", *(f"false: {r.name}" for r in RULES), *(f"found: {r.name}" for r in RULES)]
    )
    _line(["---"] * (3 + 2 * len(RULES)))
    for bunch, rates, shares in (
        (1, RATES, SHARES),
        (2, (0.002, 0.0085), SHARES[:1]),
        (5, (0.002, 0.0085), SHARES[:1]),
    ):
        for rate in rates:
            for share in shares:
                wrong = false_proofs(rate, share, samples, bunch)
                found = ends(Scenario("better", rate, share, bunch), RULES, max(samples // 4, 1))
                _line(
                    [
                        f"{100 * rate:g} %",
                        "pairs" if share is None else f"{share:g}",
                        str(bunch),
                        *(f"{100 * wrong[rule.name]:.1f} %" for rule in RULES),
                        *(f"{100 * found[rule.name]['promote']:.0f} %" for rule in RULES),
                    ]
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
