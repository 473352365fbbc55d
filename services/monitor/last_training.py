"""What became of the last training that the monitor asked for: the run's folder says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from caudal.errors import NotFound
from caudal.identity import format_instant
from caudal.storage import join
from monitor.earlier_runs import previous_as_of
from monitor.measurements import Measurement, time_taken
from monitor.trainings import Attempt, Trainings

if TYPE_CHECKING:
    from caudal.step import StepContext

Fate = Literal["promoted", "refused", "failed"]


@dataclass(frozen=True)
class LastTraining:
    """The latest attempt and its fate.

    Attributes:
        fate: `failed` when its run has no verdict, or no promotion though the verdict allowed one.
        seconds: that training took, where it came to an end.
    """

    run: str
    as_of: str
    fate: Fate
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def last_training(context: StepContext, trainings: Trainings) -> LastTraining | None:
    """The latest attempt before this run, or None."""
    attempt = next(trainings.before(), None)
    if attempt is None:
        return None
    trained = _result(context, attempt, "train")
    seconds = trained.get("seconds") if trained else None
    return LastTraining(attempt.run, format_instant(attempt.as_of), fate_of(context, attempt), seconds)


def measurements(context: StepContext, last: LastTraining | None) -> list[Measurement]:
    """Its time, if it was in the run just before this one, and an alarm if it failed: the champion stayed."""
    if last is None or last.as_of != format_instant(previous_as_of(context)):
        return []
    measured = []
    if last.seconds is not None:
        allowed = context.contract.monitor.time.training
        taken = time_taken("training_seconds", float(last.seconds), 1, allowed)
        measured.append(replace(taken, evidence={"training": last.run}))
    if last.fate == "failed":
        evidence = {"training": last.run}
        measured.append(Measurement("failed_trainings", 1.0, 1, None, 0.0, "training", evidence))
    return measured


def fate_of(context: StepContext, attempt: Attempt) -> Fate:
    """What became of an attempt, by the results in its run's folder."""
    judged = _result(context, attempt, "validate")
    if judged is None or (judged.get("passed") and _result(context, attempt, "promote") is None):
        return "failed"
    return "promoted" if judged.get("passed") else "refused"


def _result(context: StepContext, attempt: Attempt, step: str) -> dict[str, Any] | None:
    uri = join(context.environment.runs(context.contract.name, attempt.run), f"{step}.json")
    try:
        result: dict[str, Any] = context.storage.read_json(uri)
    except NotFound:
        return None
    return result
