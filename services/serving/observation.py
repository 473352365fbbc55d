"""Counts and times every answer; an error that nobody expected is answered 500 and told without its words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from serving.refusals import refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from serving.telemetry import Telemetry


class Observation:
    """ASGI middleware; the outermost, so that refusals are counted too."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, routes: frozenset[str]) -> None:
        self._app = app
        self._telemetry = telemetry
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            self._telemetry.failed("request", "a request failed")
            if not status:
                status = 500
                await refused(500, "the server failed; its log says where", "failed")(scope, receive, send)
        # Paths that are not ours would let anyone fill the metrics.
        route = scope["path"] if scope["path"] in self._routes else "other"
        # 499: the client left before there was an answer.
        self._telemetry.answered(route, status or 499, time.perf_counter() - started)
