"""The application: routes around `PredictionService`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from caudal.identity import format_instant
from serving import openapi
from serving.instances import InvalidRequest
from serving.limits import Limits
from serving.live import START_PATIENCE, LiveModels
from serving.observation import Observation
from serving.openapi import MOST_REASONS
from serving.page import CONTENT_SECURITY_POLICY, render
from serving.prediction_log import PredictionLog
from serving.refusals import refusal, refused
from serving.service import NothingLive, PredictionService
from serving.telemetry import Telemetry

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.storage import Storage

_NOT_SERVED = {
    404: ("nothing is served at this address", "not_found"),
    405: ("this address has other methods", "method_not_allowed"),
}
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class _Prediction:
    """A route in plain ASGI: FastAPI's way from a request to its endpoint costs more CPU than the model."""

    def __init__(self, answer: Callable[[bytes, int | None], Awaitable[bytes]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reasons = _reasons(scope["query_string"])
        # The limits in front hand on whole bodies.
        message = await receive()
        body = await self._answer(message["body"], reasons)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _reasons(query: bytes) -> int | None:
    """How many reasons the query asks for; None where it asks for reasons and says no number."""
    if not query:
        return 0
    said = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    wanted = said.pop("reasons", "0")
    if said:
        name = next(iter(said))
        raise InvalidRequest(
            [{"loc": ["query", name], "msg": "only 'reasons' is known", "type": "extra_forbidden"}]
        )
    if not wanted:
        return None
    if not (wanted.isascii() and wanted.isdigit() and int(wanted[:9]) <= MOST_REASONS):
        asked = f"Input should be an integer from 0 to {MOST_REASONS}"
        raise InvalidRequest([{"loc": ["query", "reasons"], "msg": asked, "type": "int_range"}])
    return int(wanted)


def create_app(contract: Contract, environment: Environment, storage: Storage) -> FastAPI:
    """The server of one contract; which model answers is the promotion ledger's word.

    Args:
        contract: for its name; what a request may hold comes from the contract in the live package.
    """
    telemetry = Telemetry()
    models = LiveModels(contract, environment, storage, telemetry)
    log = PredictionLog(contract, environment.serving.prediction_log)
    service = PredictionService(environment, models, log, telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await models.current(START_PATIENCE)
        yield
        await models.close()
        log.close()

    app = FastAPI(
        title=f"Caudal: {contract.name}",
        description=contract.question,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # What it does is told by /metrics and the logs, without any value of a request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    described = openapi.Description(app)

    # First, since routes are tried in their order.
    for path, answer in ((openapi.ONE, service.predict_one), (openapi.MANY, service.predict_many)):
        app.router.routes.append(Route(path, _Prediction(answer), methods=["POST"]))

    async def model() -> dict[str, Any]:
        """What is live."""
        live = await models.current()
        if live is None:
            raise NothingLive
        challenger = environment.serving.challenger
        return {
            "contract": contract.name,
            "question": live.champion.contract.question,
            "champion": {
                "version": live.champion.version,
                "as_of": format_instant(live.promoted.as_of),
                "reason": live.promoted.reason,
                "threshold": live.champion.threshold,
            },
            "challenger": None
            if live.challenger is None
            else {
                "version": live.challenger.version,
                "share": challenger.share,
                "shadow": challenger.shadow,
            },
        }

    async def alive() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    async def ready() -> Response:
        """A model is live, so predictions are answered."""
        live = await models.current()
        if live is None:
            return JSONResponse({"status": models.absence.words}, status_code=503)
        return JSONResponse({"status": "ready", "model_version": live.champion.version})

    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(telemetry.page(), media_type=_METRICS)

    async def page() -> Response:
        """A page on which a person fills in a row and sees its score and the reasons."""
        live = await models.current()
        if live is None:
            raise NothingLive
        return HTMLResponse(render(live.champion), headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    async def description() -> Response:
        """This API's description, with the fields of the live model's contract."""
        live = await models.current()
        if live is None:
            raise NothingLive
        return Response(described.of(live.champion), media_type="application/json")

    app.get("/v1/model")(model)
    app.get("/livez")(alive)
    app.get("/readyz")(ready)
    app.get("/metrics")(metrics)
    app.get("/", include_in_schema=False)(page)
    app.get("/openapi.json", include_in_schema=False)(description)

    async def refuse(_: Request, error: Exception) -> Response:
        problems = error.problems if isinstance(error, InvalidRequest) else []
        live = models.live
        telemetry.refused(problems, live.champion.reader.fields if live is not None else frozenset())
        return refusal(422, problems)

    async def not_yet(_: Request, error: Exception) -> Response:
        return refused(503, models.absence.words, models.absence.kind, {"Retry-After": "5"})

    async def not_served(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words, kind = _NOT_SERVED.get(error.status_code, (error.detail, "refused"))
        return refused(error.status_code, words, kind, error.headers)

    app.add_exception_handler(InvalidRequest, refuse)
    app.add_exception_handler(NothingLive, not_yet)
    app.add_exception_handler(HTTPException, not_served)
    routes = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(Limits, settings=environment.serving, telemetry=telemetry)
    app.add_middleware(Observation, telemetry=telemetry, routes=routes)
    return app
