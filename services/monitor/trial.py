"""A challenger's trial: its losses beside the champion's on the same rows, and what follows.

Both score every row that arrives while the trial lasts, so the comparison is paired, and each row's label is
counted once it is due. The warehouse sums the losses; one row leaves it, however many were compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from caudal.identity import format_instant
from caudal.labels import label_value
from caudal.promotions import Promotion, Promotions
from caudal.sql import quoted
from caudal.tables import predictions_table, shadow_table, warehouse_table
from caudal.tracking import Tracking
from monitor.measurements import Measurement
from monitor.sequential import Bounds, Sums, confidence_sequence

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.contract.monitoring import Trial
    from caudal.step import StepContext

Verdict = Literal["promote", "drop", "go on"]


@dataclass(frozen=True)
class Losses:
    """Sums over the rows that both models scored and whose labels are due.

    Attributes:
        champion, challenger: sums of losses.
        champion_squares, challenger_squares, products: sums of their squares and of their products.
    """

    rows: int
    champion: float
    challenger: float
    champion_squares: float
    challenger_squares: float
    products: float

    def advantage(self, margin: float) -> Sums:
        """Of (1 + margin) x the champion's loss - the challenger's, row by row."""
        weight = 1 + margin
        return Sums(
            self.rows,
            weight * self.champion - self.challenger,
            weight**2 * self.champion_squares - 2 * weight * self.products + self.challenger_squares,
        )


@dataclass(frozen=True)
class Outcome:
    """What a trial has come to.

    Attributes:
        reason: one sentence for the ledger.
        difference: the challenger's advantage: the champion's mean loss less its own.
        within_margin: the same with the champion's loss raised by the margin.
    """

    verdict: Verdict
    reason: str
    losses: Losses
    difference: Bounds
    within_margin: Bounds

    def evidence(self) -> dict[str, Any]:
        """Figures for the ledger and for a step's result."""
        rows = max(self.losses.rows, 1)
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "rows": self.losses.rows,
            "champion_loss": self.losses.champion / rows,
            "challenger_loss": self.losses.challenger / rows,
            "difference": _json(self.difference),
            "within_margin": _json(self.within_margin),
        }


def judge(losses: Losses, trial: Trial, lasted_too_long: bool) -> Outcome:
    """What follows from the losses so far."""
    difference = confidence_sequence(losses.advantage(0.0), trial.level, trial.minimum_rows)
    within = confidence_sequence(losses.advantage(trial.margin), trial.level, trial.minimum_rows)
    verdict: Verdict = "go on"
    reason = f"{losses.rows} rows decide nothing yet"
    if losses.rows >= trial.minimum_rows and difference.high < 0:
        verdict, reason = "drop", "proven to be worse than the champion"
    elif losses.rows >= trial.minimum_rows and within.low > 0:
        verdict = "promote"
        reason = f"proven to lose at most {1 + trial.margin:g} times what the champion loses"
        if difference.low > 0:
            reason = "proven to be better than the champion"
    elif lasted_too_long:
        verdict, reason = "drop", f"not proven to be good enough after {losses.rows} rows"
    return Outcome(verdict, reason, losses, difference, within)


def run_trial(context: StepContext, champion: Promotion, challenger: Promotion) -> Outcome:
    """Judges the challenger that is on trial at this run's as-of."""
    trial = context.contract.monitor.trial
    losses = _losses(context, champion, challenger)
    return judge(losses, trial, context.run.as_of - challenger.as_of >= trial.at_most)


def measurements(outcome: Outcome, trial: Trial) -> list[Measurement]:
    """The trial's figures."""
    rows = outcome.losses.rows
    if rows < trial.minimum_rows:
        return [Measurement("trial_rows", rows, rows)]
    return [
        Measurement("trial_rows", rows, rows),
        Measurement("trial_champion_loss", outcome.losses.champion / rows, rows),
        Measurement("trial_challenger_loss", outcome.losses.challenger / rows, rows),
        Measurement("trial_difference", outcome.difference.mean, rows),
        Measurement("trial_difference_low", outcome.difference.low, rows),
        Measurement("trial_difference_high", outcome.difference.high, rows),
    ]


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
    Tracking.of(context.environment).follow(context.contract.name, promotions)


def _losses(context: StepContext, champion: Promotion, challenger: Promotion) -> Losses:
    contract = context.contract
    loss, parameters = _loss_in_sql(contract)
    predictions, shadow = predictions_table(contract), shadow_table(contract)
    rows = (
        f"SELECT {loss('p')} AS a, {loss('s')} AS b "
        f"FROM {predictions.sql_name} AS p JOIN {shadow.sql_name} AS s ON s.key = p.key "
        f"JOIN {warehouse_table(contract).sql_name} AS w ON w.{quoted(contract.key)} = p.key "
        "WHERE p.model_version = @champion AND s.model_version = @challenger AND p.event_time <= @due "
        f"AND w._first_as_of > @since AND w.{quoted(contract.label.column)} IS NOT NULL"
    )
    # Sums of NUMERIC come out alike whatever the order; sums of FLOAT64 do not.
    summed = ", ".join(
        f"CAST(SUM(CAST({what} AS NUMERIC)) AS FLOAT64) AS {name}"
        for name, what in (("a", "a"), ("b", "b"), ("aa", "a * a"), ("bb", "b * b"), ("ab", "a * b"))
    )
    answer = context.warehouse.query(
        f"WITH compared AS ({rows}) SELECT COUNT(*) AS n, {summed} FROM compared",
        {
            **parameters,
            "champion": champion.version,
            "challenger": challenger.version,
            "due": context.run.as_of - contract.label.due_after,
            "since": challenger.as_of,
        },
    )
    (values,) = answer.to_pylist()
    sums = [float(values[name] or 0.0) for name in ("a", "b", "aa", "bb", "ab")]
    return Losses(int(values["n"]), *sums)


def _loss_in_sql(contract: Contract) -> tuple[Any, dict[str, str | bool | int]]:
    """From an alias of predictions to the loss of its row, in SQL; and the parameters that it uses."""
    label = f"w.{quoted(contract.label.column)}"
    if contract.task == "regression":
        return lambda of: f"({of}.score - {label}) * ({of}.score - {label})", {}
    if contract.task == "multiclass":
        return lambda of: f"CASE WHEN {of}.prediction = {label} THEN 0.0 ELSE 1.0 END", {}
    truth = f"CASE WHEN {label} = @positive THEN 1.0 ELSE 0.0 END"
    positive = label_value(contract, contract.label.positive or "")
    return lambda of: f"({of}.score - {truth}) * ({of}.score - {truth})", {"positive": positive}


def _json(bounds: Bounds) -> dict[str, float | None]:
    return {
        name: value if abs(value) < float("inf") else None
        for name, value in (("mean", bounds.mean), ("low", bounds.low), ("high", bounds.high))
    }
