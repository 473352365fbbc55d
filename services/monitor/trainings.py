"""The ledger of training attempts: when the monitor last asked for a training, and with which code.

An attempt is recorded with the decision, before anything is trained. So for the cool-down and the budget a
training that fails or is refused counts like one that succeeds: neither can make the next run try the same again
at once. What a training took up, rows and recipe, is told by the latest one that did not fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from caudal.identity import format_instant, parse_instant
from caudal.storage import join

if TYPE_CHECKING:
    from caudal.step import StepContext


@dataclass(frozen=True)
class Recipe:
    """What decides a model besides its rows.

    Attributes:
        trainer: the digest of the trainer unit; None where the run does not say it.
        contract: the digest of the contract's sections that decide the model.
    """

    trainer: str | None
    contract: str

    @staticmethod
    def current(context: StepContext) -> Recipe:
        """The recipe by which a training of this run would go."""
        return Recipe(context.run.trainer or None, context.contract.model_digest())

    def differs_from(self, other: Recipe) -> bool:
        """Whether the two would give different models of the same rows, as far as is known."""
        trainers = {self.trainer, other.trainer} - {None}
        return self.contract != other.contract or len(trainers) > 1


@dataclass(frozen=True)
class Attempt:
    """One decision to train."""

    run: str
    as_of: datetime
    reasons: tuple[str, ...]
    recipe: Recipe

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "as_of": format_instant(self.as_of),
            "reasons": list(self.reasons),
            "trainer": self.recipe.trainer,
            "contract": self.recipe.contract,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Attempt:
        return Attempt(
            value["run"],
            parse_instant(value["as_of"]),
            tuple(value["reasons"]),
            Recipe(value["trainer"], value["contract"]),
        )


class Trainings:
    """The attempts of one contract."""

    def __init__(self, context: StepContext) -> None:
        self._storage = context.storage
        self._uri = context.environment.ledger(context.contract.name, "trainings")
        self._run = context.run

    def before(self) -> Iterator[Attempt]:
        """The attempts of other runs, up to this run's as-of, the latest first; each is read when asked for."""
        # Names begin with the as-of, so their order is that of time.
        for name in reversed(self._storage.names(self._uri)):
            if name != f"{self._run.id}.json":
                attempt = Attempt.from_json(self._storage.read_json(join(self._uri, name)))
                if attempt.as_of <= self._run.as_of:
                    yield attempt

    def record(self, attempt: Attempt) -> None:
        """Records this run's attempt; repeating it writes the same bytes."""
        self._storage.write_json(join(self._uri, f"{attempt.run}.json"), attempt.to_json())
