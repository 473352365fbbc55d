"""From a request's body to its answer: read, complete, choose the model, score, log, answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from serving.arms import belongs_to_challenger
from serving.instances import Flag, Instance
from serving.states import StateAge, Windows

if TYPE_CHECKING:
    from caudal.environment import Environment
    from serving.live import Live, LiveModels
    from serving.models import ServedModel
    from serving.prediction_log import PredictionLog
    from serving.telemetry import Telemetry

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"
_AT_ONCE = 64


class Reason(TypedDict):
    """How far a feature moved the score: in log-odds for classes, before calibration."""

    feature: str
    value: bool | int | float | str | None
    contribution: float


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

    async def predict_one(self, body: bytes, reasons: int) -> bytes:
        """The answer to a request with one instance, as JSON.

        Raises:
            InvalidRequest: the body is not what the contract asks for.
            NothingLive: there is no model.
        """
        live = await self._live()
        instance = live.champion.reader.one(body)
        (answer,) = self._answer(live, [instance], reasons)
        return one_answer.serializer.to_json(answer)

    async def predict_many(self, body: bytes, reasons: int) -> bytes:
        """The answer to a request with a batch; other requests are served between its parts.

        Raises:
            InvalidRequest: an instance is not what the contract asks for; then none is scored.
            NothingLive: there is no model.
        """
        live = await self._live()
        instances = live.champion.reader.many(body)
        answers: list[Prediction] = []
        for start in range(0, len(instances), _AT_ONCE):
            answers += self._answer(live, instances[start : start + _AT_ONCE], reasons)
            await asyncio.sleep(0)
        return many_answers.serializer.to_json({"predictions": answers})

    async def _live(self) -> Live:
        live = await self.models.current()
        if live is None:
            raise NothingLive
        return live

    def _answer(self, live: Live, instances: Sequence[Instance], reasons: int) -> list[Prediction]:
        states = self._complete(live, instances)
        answers: list[Prediction | None] = [None] * len(instances)
        lines: list[bytes] = []
        by_champion = list(range(len(instances)))
        challenger = live.challenger
        if challenger is not None and self._share > 0:
            name = live.champion.contract.name
            by_challenger = [
                i
                for i in by_champion
                if belongs_to_challenger(name, challenger.version, instances[i].key, self._share)
            ]
            chosen = set(by_challenger)
            by_champion = [i for i in by_champion if i not in chosen]
            self._score(challenger, CHALLENGER, instances, by_challenger, reasons, answers, lines)
        self._score(live.champion, CHAMPION, instances, by_champion, reasons, answers, lines)
        if challenger is not None and self._shadow and by_champion:
            try:
                self._score(challenger, SHADOW, instances, by_champion, 0, None, lines)
            except Exception:
                self._telemetry.failed("shadow", "the challenger could not score in the shadow")
        self._log.write(lines)
        made = [answer for answer in answers if answer is not None]
        for answer, told in zip(made, states, strict=bool(states)):
            answer["state"] = told
        return made

    def _complete(self, live: Live, instances: Sequence[Instance]) -> list[dict[str, StateAge]]:
        """What was looked up for each instance; nothing for contracts without windows."""
        if not live.champion.contract.features.windows:
            return []
        if self._windows is None or self._windows[0] is not live.champion:
            self._windows = (live.champion, Windows(live.champion.contract))
        windows = self._windows[1]
        return [windows.complete(instance, live.states) for instance in instances]

    def _score(
        self,
        model: ServedModel,
        arm: str,
        instances: Sequence[Instance],
        chosen: Sequence[int],
        reasons: int,
        answers: list[Prediction | None] | None,
        lines: list[bytes],
    ) -> None:
        """Scores the chosen instances, and appends their lines; `answers` is None in the shadow."""
        if not chosen:
            return
        rows = [instances[i].row for i in chosen]
        scores = model.score(rows)
        why = model.reasons(rows, reasons) if reasons else None
        for at, i in enumerate(chosen):
            instance = instances[i]
            score, prediction = model.decide(scores[at])
            made = f"{random.getrandbits(128):032x}"
            lines.append(self._log.line(instance, made, score, prediction, model.version, arm))
            self._telemetry.predicted(model.version, arm, score)
            if answers is None:
                continue
            if instance.flags:
                self._telemetry.flagged(instance.flags)
            answer: Prediction = {
                "id": made,
                "key": instance.key,
                "score": score,
                "prediction": prediction,
                "model_version": model.version,
                "arm": arm,
                "flags": instance.flags,
            }
            if why is not None:
                answer["reasons"] = why[at]  # type: ignore[typeddict-item]
            answers[i] = answer
