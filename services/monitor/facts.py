"""The facts that the decision to train rests on, read from the warehouse, the ledger and this run's results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING

from caudal.event_time import happened_by
from caudal.promotions import Promotion
from caudal.sql import quoted
from caudal.tables import warehouse_table
from monitor.decision import Facts
from monitor.earlier_runs import BEGINNING, taken_after
from monitor.last_training import fate_of
from monitor.measurements import Measurement
from monitor.trainings import Attempt, Recipe, Trainings
from monitor.trial import Outcome

if TYPE_CHECKING:
    from caudal.package import ModelPackage
    from caudal.step import StepContext


def facts_of(
    context: StepContext,
    champion: Promotion | None,
    package: ModelPackage | None,
    trainings: Trainings,
    measured: Sequence[Measurement],
    trial: Outcome | None,
) -> Facts:
    """Collects them.

    Args:
        package: the champion's.
        measured: what `outcomes` measured; the alarms of `inputs` come with the run's results.
    """
    promoted = champion.as_of if champion else None
    attempt = next(trainings.before(), None)
    # One that failed has taken up neither rows nor a recipe: what asked for it still asks.
    trained = next((one for one in trainings.before() if fate_of(context, one) != "failed"), None)
    last = trained.as_of if trained else promoted
    due, new = _due_rows(context, last)
    raised = context.results.get("inputs", {}).get("alarms", [])
    return Facts(
        as_of=context.run.as_of,
        champion=champion is not None,
        alarms=frozenset([*(a["kind"] for a in raised), *(one.kind for one in measured if one.kind is not None)]),
        due_rows=due,
        new_rows=new,
        code_changed=_recipe_changed(context, package, trained),
        last_training=last,
        last_attempt=attempt.as_of if attempt else promoted,
        trainings_within_budget=_trainings_within_budget(context, trainings),
        on_trial=trial is not None and trial.verdict != "drop",
    )


def _due_rows(context: StepContext, last_training: datetime | None) -> tuple[int, int]:
    """Rows whose label is known and due, and those of them that were not at the last training."""
    contract = context.contract
    due, parameters = happened_by(contract, context.run.as_of - contract.label.due_after, "due")
    since = last_training or BEGINNING
    then_due, then_parameters = happened_by(contract, since - contract.label.due_after, "then_due")
    taken, taken_parameters = taken_after(contract, since)
    answer = context.warehouse.query(
        f"SELECT COUNT(*) AS due_rows, COUNTIF(NOT {then_due} OR {taken}) AS new_rows "
        f"FROM {warehouse_table(contract).sql_name} "
        f"WHERE {quoted(contract.label.column)} IS NOT NULL AND {due}",
        {**parameters, **then_parameters, **taken_parameters},
    )
    return int(answer.column("due_rows")[0].as_py()), int(answer.column("new_rows")[0].as_py())


def _recipe_changed(context: StepContext, package: ModelPackage | None, trained: Attempt | None) -> bool:
    """Whether a training now would follow another recipe than the last one.

    The last one is that of the latest attempt that did not fail, else the champion's. So a change that was
    withheld still stands in later runs, until a training takes it up. A run's reason `code` proves none: it may
    follow any deployment.
    """
    now = Recipe.current(context)
    if trained is not None:
        return now.differs_from(trained.recipe)
    if package is None:
        return False
    return now.differs_from(Recipe(package.metadata["unit"], package.contract.model_digest()))


def _trainings_within_budget(context: StepContext, trainings: Trainings) -> int:
    budget = context.contract.retrain.budget
    if budget is None:
        return 0
    since = context.run.as_of - budget.within
    return sum(1 for _ in takewhile(lambda attempt: attempt.as_of > since, trainings.before()))
