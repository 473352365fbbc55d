"""The decision to train: a function of facts and of the contract's section `retrain`, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from caudal.contract.values import format_duration
from caudal.identity import format_instant

if TYPE_CHECKING:
    from caudal.contract.monitoring import Retrain

DRIFT_KINDS: frozenset[str] = frozenset({"drift", "class_drift", "prediction_drift"})


@dataclass(frozen=True)
class Facts:
    """What the decision rests on.

    Attributes:
        champion: there is one.
        alarms: the kinds of alarm that this run raised.
        due_rows: rows whose labels are known and due.
        new_rows: those among them that a training at `last_training` could not have had.
        code_changed: the recipe is not the one of the last training.
        last_training: the as-of of the last training that did not fail; without one, that of the champion's
            promotion.
        last_attempt: the same of the last attempt to train, whatever came of it.
        trainings_within_budget: attempts within the budget's stretch of time.
        on_trial: a challenger is on trial, or has just won its own.
    """

    as_of: datetime
    champion: bool
    alarms: frozenset[str]
    due_rows: int
    new_rows: int
    code_changed: bool
    last_training: datetime | None
    last_attempt: datetime | None
    trainings_within_budget: int = 0
    on_trial: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether to train, and why or why not.

    Attributes:
        reasons: what a training is done for; none without a training.
        withheld: what asks for a training that is not done, and why not; empty when nothing asks.
    """

    retrain: bool
    reasons: tuple[str, ...] = ()
    withheld: str = ""


def decide(facts: Facts, retrain: Retrain, minimum_rows: int) -> Decision:
    """Decides.

    Args:
        minimum_rows: no model is trained on fewer due rows.
    """
    reasons = tuple(_reasons(facts, retrain))
    if not reasons:
        return Decision(False)
    obstacle = _obstacle(facts, retrain, minimum_rows)
    if obstacle:
        return Decision(False, (), f"{', '.join(reasons)}: {obstacle}")
    return Decision(True, reasons)


def _reasons(facts: Facts, retrain: Retrain) -> Iterator[str]:
    if not facts.champion:
        yield "first_model"
        return
    if "drift" in retrain.on and facts.alarms & DRIFT_KINDS:
        yield "drift"
    if "quality" in retrain.on and "quality" in facts.alarms:
        yield "quality"
    if "new_data" in retrain.on and facts.new_rows >= retrain.new_rows:
        yield "new_data"
    if "code" in retrain.on and facts.code_changed:
        yield "code"
    if (
        retrain.at_least_every is not None
        and facts.last_training is not None
        and facts.as_of - facts.last_training >= retrain.at_least_every
    ):
        yield "schedule"


def _obstacle(facts: Facts, retrain: Retrain, minimum_rows: int) -> str:
    if facts.due_rows < minimum_rows:
        return f"{facts.due_rows} of {minimum_rows} due rows"
    if facts.on_trial:
        return "a challenger is on trial"
    budget = retrain.budget
    if budget is not None and facts.trainings_within_budget >= budget.trainings:
        return f"the budget of {budget.trainings} trainings within {format_duration(budget.within)} is used up"
    if (
        retrain.at_most_every is not None
        and facts.last_attempt is not None
        and facts.as_of - facts.last_attempt < retrain.at_most_every
    ):
        return f"cool-down until {format_instant(facts.last_attempt + retrain.at_most_every)}"
    if facts.last_training is not None and not facts.new_rows and not facts.code_changed:
        # The same rows and the same recipe would give the same model, and the same verdict.
        return "nothing new to learn since the last training"
    return ""
