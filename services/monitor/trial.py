"""A challenger's trial: what two comparisons with the champion have shown, and what follows.

The live arms are compared by what came of the answers that customers got (`live_arms`); the paired comparison
holds both models' scores of the same rows beside each other (`paired`). It is the sharper one, since the rows' own
differences fall out of it, but nobody acted on the challenger's half. So where the challenger answers customers,
the live arms decide whether it is promoted; proven worse in either, it is dropped. Without a share of the answers
the paired comparison decides alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from caudal.following import follow
from caudal.identity import format_instant
from caudal.promotions import Promotion, Promotions
from monitor.live_arms import LiveArms, live_arms
from monitor.losses import Loss
from monitor.measurements import Measurement
from monitor.paired import Paired, paired_losses
from monitor.sequential import Bounds, confidence_sequence

if TYPE_CHECKING:
    from caudal.contract.monitoring import Trial
    from caudal.package import ModelPackage
    from caudal.step import StepContext

Verdict = Literal["promote", "drop", "go on"]


@dataclass(frozen=True)
class Comparison:
    """What one comparison has shown.

    Attributes:
        enough: it has the fewest rows that decide, and of each class of a binary task.
        difference: the challenger's advantage: the champion's mean loss less its own.
        within_margin: the same with the champion's loss raised by the margin.
    """

    enough: bool
    difference: Bounds
    within_margin: Bounds

    @staticmethod
    def of(losses: Paired | LiveArms, trial: Trial, level: float) -> Comparison:
        """Both bounds at a level, the tightest where each side has the fewest rows that decide."""
        tuned_for = trial.minimum_rows * (2 if isinstance(losses, LiveArms) else 1)
        return Comparison(
            losses.fewest >= trial.minimum_rows
            and (losses.rarer is None or losses.rarer >= trial.minimum_of_each_class),
            confidence_sequence(losses.advantage(0.0), level, tuned_for),
            confidence_sequence(losses.advantage(trial.margin), level, tuned_for),
        )

    @property
    def worse(self) -> bool:
        return self.enough and self.difference.high < 0

    @property
    def good_enough(self) -> bool:
        return self.enough and self.within_margin.low > 0

    def to_json(self) -> dict[str, Any]:
        return {"difference": _json(self.difference), "within_margin": _json(self.within_margin)}


@dataclass(frozen=True)
class Outcome:
    """What a trial has come to.

    Attributes:
        reason: one sentence for the ledger.
        decided_by: whose word it was, or whose is awaited.
        paired, live: the losses; no live arms while the challenger has answered nobody.
        by_pairs, by_arms: what they show.
    """

    verdict: Verdict
    reason: str
    decided_by: Literal["live", "paired"]
    paired: Paired
    by_pairs: Comparison
    live: LiveArms | None = None
    by_arms: Comparison | None = None

    def evidence(self) -> dict[str, Any]:
        """Figures for the ledger and for a step's result."""
        live = None
        if self.live is not None and self.by_arms is not None:
            live = {**self.live.to_json(), **self.by_arms.to_json()}
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "decided_by": self.decided_by,
            "paired": {**self.paired.to_json(), **self.by_pairs.to_json()},
            "live": live,
        }


def judge(paired: Paired, live: LiveArms | None, trial: Trial, lasted_too_long: bool) -> Outcome:
    """What follows from the losses so far.

    With both comparisons each is at half the chance of error, so that the bounds of both hold at all times
    together with the contract's level (union bound).
    """
    if live is None:
        alone = Comparison.of(paired, trial, trial.level)
        verdict, reason = _by_one(alone, paired, trial, lasted_too_long)
        return Outcome(verdict, reason, "paired", paired, alone)
    each = 1 - (1 - trial.level) / 2
    by_pairs, by_arms = Comparison.of(paired, trial, each), Comparison.of(live, trial, each)
    decided_by: Literal["live", "paired"] = "live"
    verdict, reason = _by_one(by_arms, live, trial, lasted_too_long)
    reason = f"{reason}, by what came of live answers"
    if by_pairs.worse and verdict != "drop":
        decided_by, verdict = "paired", "drop"
        reason = "proven to be worse than the champion on the rows that both scored"
    elif lasted_too_long and not by_arms.enough and by_pairs.good_enough:
        # Too few were answered for the arms to be judged at all; what is known is the proof by pairs.
        decided_by, (verdict, reason) = "paired", _by_one(by_pairs, paired, trial, lasted_too_long)
        reason = f"{reason} on the rows that both scored; too few answers came due to judge the live arms"
    return Outcome(verdict, reason, decided_by, paired, by_pairs, live, by_arms)


def _by_one(
    shown: Comparison, losses: Paired | LiveArms, trial: Trial, lasted_too_long: bool
) -> tuple[Verdict, str]:
    """The verdict of one comparison, and why."""
    if shown.worse:
        return "drop", "proven to be worse than the champion"
    if shown.good_enough:
        if shown.difference.low > 0:
            return "promote", "proven to be better than the champion"
        return "promote", f"proven to lose at most {1 + trial.margin:g} times what the champion loses"
    seen = f"{losses.fewest} rows"
    if losses.rarer is not None and losses.rarer < trial.minimum_of_each_class:
        seen = f"{seen} with {losses.rarer} of the rarer label"
    if lasted_too_long:
        return "drop", f"not proven to be good enough after {seen}"
    return "go on", f"{seen} decide nothing yet"


def run_trial(context: StepContext, package: ModelPackage, champion: Promotion, challenger: Promotion) -> Outcome:
    """Judges the challenger that is on trial at this run's as-of.

    Args:
        package: the champion's.
    """
    contract = context.contract
    loss = Loss.of(contract, package, "w")
    paired = paired_losses(context, loss, champion, challenger)
    live = live_arms(context, loss, champion, challenger)
    # No label of a row of the trial is due sooner.
    judged_since = challenger.as_of + contract.label.due_after
    trial = contract.monitor.trial
    return judge(paired, live, trial, context.run.as_of - judged_since >= trial.at_most)


def measurements(outcome: Outcome) -> list[Measurement]:
    """The trial's figures."""
    paired = outcome.paired
    found = [Measurement("trial_rows", paired.rows, paired.rows)]
    if outcome.by_pairs.enough:
        found += [
            Measurement("trial_champion_loss", paired.champion_mean, paired.rows),
            Measurement("trial_challenger_loss", paired.challenger_mean, paired.rows),
            *_bounds("trial", outcome.by_pairs, paired.rows),
        ]
    if outcome.live is None or outcome.by_arms is None:
        return found
    for name, arm in (("champion", outcome.live.champion), ("challenger", outcome.live.challenger)):
        rows = arm.losses.rows
        found.append(Measurement(f"trial_live_{name}_rows", rows, rows))
        if rows:
            found.append(Measurement(f"trial_live_{name}_loss", arm.losses.mean, rows))
        if arm.positive_rate is not None:
            found.append(Measurement(f"trial_live_{name}_positive_rate", arm.positive_rate, rows))
    if outcome.by_arms.enough:
        found += _bounds("trial_live", outcome.by_arms, outcome.live.advantage(0.0).rows)
    return found


def _bounds(name: str, shown: Comparison, rows: int) -> Iterator[Measurement]:
    difference = shown.difference
    for suffix, value in (("", difference.mean), ("_low", difference.low), ("_high", difference.high)):
        if isfinite(value):
            yield Measurement(f"{name}_difference{suffix}", value, rows)


def conclude(
    context: StepContext, promotions: Promotions, champion: Promotion, challenger: Promotion, outcome: Outcome
) -> None:
    """Enters the verdict into the ledger, once: the challenger becomes champion, or the champion is confirmed."""
    if outcome.verdict == "go on":
        return
    chosen = challenger if outcome.verdict == "promote" else champion
    promotions.promote(
        version=chosen.version,
        model_type=chosen.model_type,
        package=chosen.package,
        as_of=context.run.as_of,
        by=f"run {context.run.id}",
        reason=f"trial of {challenger.version} since {format_instant(challenger.as_of)}: {outcome.reason}",
        snapshot=chosen.snapshot,
        evidence={"challenger": challenger.version, "champion": champion.version, **outcome.evidence()},
        commit=context.run.commit,
        request=f"{context.run.id}/trial",
    )
    follow(context.contract, context.environment, promotions)


def _json(bounds: Bounds) -> dict[str, float | None]:
    return {
        name: value if isfinite(value) else None
        for name, value in (("mean", bounds.mean), ("low", bounds.low), ("high", bounds.high))
    }
