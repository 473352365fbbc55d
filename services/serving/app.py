"""The application: routes around `PredictionService`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from caudal.identity import format_instant
from serving import openapi
from serving.instances import InvalidRequest
from serving.limits import Limits
from serving.live import LiveModels
from serving.observation import Observation
from serving.page import CONTENT_SECURITY_POLICY, render
from serving.prediction_log import PredictionLog
from serving.service import NothingLive, PredictionService
from serving.telemetry import Telemetry

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.storage import Storage

_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_NOTHING_LIVE = {"detail": [{"loc": [], "msg": "no model is live yet", "type": "nothing_live"}]}
_MOST_REASONS = 100


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
        await models.current()
        yield
        log.close()

    app = FastAPI(
        title=f"Caudal: {contract.name}",
        description=contract.question,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    async def predict(request: Request, reasons: Annotated[int, Query(ge=0, le=_MOST_REASONS)] = 0) -> Response:
        """Scores one row."""
        return Response(await service.predict_one(await request.body(), reasons), media_type=_JSON)

    async def predict_batch(
        request: Request, reasons: Annotated[int, Query(ge=0, le=_MOST_REASONS)] = 0
    ) -> Response:
        """Scores several rows, in their order; all of them or none."""
        return Response(await service.predict_many(await request.body(), reasons), media_type=_JSON)

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
            return JSONResponse({"status": "no model is live yet"}, status_code=503)
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
        return JSONResponse(openapi.describe(app, live.champion))

    app.post("/v1/predict")(predict)
    app.post("/v1/predict/batch")(predict_batch)
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
        return JSONResponse({"detail": problems}, status_code=422)

    async def not_yet(_: Request, error: Exception) -> Response:
        return JSONResponse(_NOTHING_LIVE, status_code=503, headers={"Retry-After": "5"})

    app.add_exception_handler(InvalidRequest, refuse)
    app.add_exception_handler(NothingLive, not_yet)
    routes = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(Limits, settings=environment.serving, telemetry=telemetry)
    app.add_middleware(Observation, telemetry=telemetry, routes=routes)
    return app
