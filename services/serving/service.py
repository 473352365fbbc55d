"""From a request's body to its answer: read, complete, choose the model, score, log, answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from serving.arms import belongs_to_challenger
from serving.instances import Flag, Instance, each
from serving.models import Reason, ServedModel
from serving.prediction_log import NOBODY, Tried
from serving.states import StateAge, Windows

if TYPE_CHECKING:
    from caudal.environment import Environment
    from serving.live import Live, LiveModels
    from serving.prediction_log import PredictionLog
    from serving.telemetry import Telemetry

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"
_AT_ONCE = 64


class Prediction(TypedDict):
    """The answer for one instance.

    `score` is the probability of the positive class, the predicted value of a regression, or the probability of
    the predicted class; `prediction` the decision at the model's threshold. `arm` says which of the live models
    answered, `flags` what was wrong with the instance, `state` how old looked-up aggregates are.
    """

    id: str
    key: int | str
    score: float
    prediction: str
    model_version: str
    arm: str
    flags: list[Flag]
    reasons: NotRequired[list[Reason]]
    state: NotRequired[dict[str, StateAge]]


class Predictions(TypedDict):
    """The answers for a batch, in its order."""

    predictions: list[Prediction]


one_answer = TypeAdapter(Prediction)
many_answers = TypeAdapter(Predictions)


class NothingLive(Exception):
    """No model was promoted yet."""


class PredictionService:
    """Answers for one contract."""

    def __init__(
        self, environment: Environment, models: LiveModels, log: PredictionLog, telemetry: Telemetry
    ) -> None:
        self.models = models
        self._log = log
        self._telemetry = telemetry
        self._share = environment.serving.challenger.share
        self._shadow = environment.serving.challenger.shadow
        self._windows: tuple[ServedModel, Windows] | None = None
        self._tried = NOBODY

    async def predict_one(self, body: bytes, reasons: int | None) -> bytes:
        """The answer to a request with one instance, as JSON.

        Args:
            reasons: how many are told; None leaves it to the live model's contract.

        Raises:
            InvalidRequest: the body is not what the contract asks for.
            NothingLive: there is no model.
        """
        live = await self._live()
        instance = live.champion.reader.one(body)
        states = [self._windows_of(live).complete(instance, live.states)] if live.windowed else []
        (answer,) = self._answer(live, [instance], states, reasons)
        return one_answer.serializer.to_json(answer)

    async def predict_many(self, body: bytes, reasons: int | None) -> bytes:
        """The answer to a request with a batch; other requests are served between its parts.

        Args:
            reasons: how many are told for each; None leaves it to the live model's contract.

        Raises:
            InvalidRequest: an instance is not what the contract asks for; then none is scored.
            NothingLive: there is no model.
        """
        live = await self._live()
        instances = live.champion.reader.many(body)
        states = self._complete(live, instances) if live.windowed else []
        answers: list[Prediction] = []
        for start in range(0, len(instances), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            answers += self._answer(live, instances[part], states[part], reasons)
            await asyncio.sleep(0)
        return many_answers.serializer.to_json({"predictions": answers})

    async def _live(self) -> Live:
        live = await self.models.current()
        if live is None:
            raise NothingLive
        return live

    def _answer(
        self, live: Live, instances: Sequence[Instance], states: Sequence[dict[str, StateAge]], reasons: int | None
    ) -> list[Prediction]:
        """Scores instances, writes their lines, and only then hands out their answers, in order."""
        if reasons is None:
            reasons = live.champion.contract.serving.reasons
        lines: list[bytes] = []
        answers: dict[int, Prediction] = {}
        tried = self._trial(live)
        by_champion, by_challenger = self._split(live, instances)
        for arm, model, chosen in (
            (CHAMPION, live.champion, by_champion),
            (CHALLENGER, live.challenger, by_challenger),
        ):
            if model is not None and chosen:
                picked = [instances[i] for i in chosen]
                answers.update(zip(chosen, self._predict(model, arm, picked, reasons, lines, tried), strict=True))
        if live.challenger is not None and self._shadow and by_champion:
            try:
                shadowed = [instances[i] for i in by_champion]
                self._predict(live.challenger, SHADOW, shadowed, 0, lines, tried)
            except Exception:
                self._telemetry.failed("shadow", "the challenger could not score in the shadow")
        self._log.write(lines)
        for i, instance in enumerate(instances):
            if instance.flags:
                self._telemetry.flagged(instance.flags)
            if states:
                answers[i]["state"] = states[i]
        return [answers[i] for i in range(len(instances))]

    def _split(self, live: Live, instances: Sequence[Instance]) -> tuple[list[int], list[int]]:
        """Which instances the champion answers, and which the challenger."""
        challenger = live.challenger
        everything = list(range(len(instances)))
        if challenger is None or self._share <= 0:
            return everything, []
        name, version = live.champion.contract.name, challenger.version
        split: tuple[list[int], list[int]] = ([], [])
        for i in everything:
            split[belongs_to_challenger(name, version, instances[i].key, self._share)].append(i)
        return split

    def _trial(self, live: Live) -> Tried:
        """Who is on trial, as each line says it."""
        version = live.challenger.version if live.challenger is not None else None
        if version != self._tried.challenger:
            self._tried = Tried(version, self._share) if version is not None else NOBODY
        return self._tried

    def _windows_of(self, live: Live) -> Windows:
        if self._windows is None or self._windows[0] is not live.champion:
            self._windows = (live.champion, Windows(live.champion.contract))
        return self._windows[1]

    def _complete(self, live: Live, instances: Sequence[Instance]) -> list[dict[str, StateAge]]:
        """Looks up what the instances of a batch leave out; all that can't be is told at once."""
        windows = self._windows_of(live)
        return each(instances, lambda instance: windows.complete(instance, live.states))

    def _predict(
        self,
        model: ServedModel,
        arm: str,
        instances: Sequence[Instance],
        reasons: int,
        lines: list[bytes],
        tried: Tried,
    ) -> list[Prediction]:
        """One model's answers; a line for each is appended to `lines`."""
        rows = [instance.row for instance in instances]
        scores = model.score(rows)
        made: list[Prediction] = []
        for instance, raw in zip(instances, scores, strict=True):
            score, prediction = model.decide(raw)
            name = f"{random.getrandbits(128):032x}"
            lines.append(self._log.line(instance, name, score, prediction, model.version, arm, tried))
            self._telemetry.predicted(model.version, arm, score)
            made.append(
                {
                    "id": name,
                    "key": instance.key,
                    "score": score,
                    "prediction": prediction,
                    "model_version": model.version,
                    "arm": arm,
                    "flags": instance.flags,
                }
            )
        if reasons:
            for answer, why in zip(made, model.reasons(rows, reasons), strict=True):
                answer["reasons"] = why
        return made
