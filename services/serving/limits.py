"""What a server takes on: requests at a time, requests of one client, the size of a body and the time it may take.

Plain ASGI, in front of the application: a body that is too large is refused before anything reads it, by its
Content-Length or, without one, as soon as too much has come.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from serving.refusals import refused

if TYPE_CHECKING:
    from fastapi.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from caudal.serving_environment import RateLimit, ServingSettings
    from serving.telemetry import Telemetry

# Probes and metrics must get through when nothing else does.
UNLIMITED = frozenset({"/livez", "/readyz", "/metrics"})
_CLIENTS = 10_000


class _Refused(Exception):
    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        self.status = status
        self.message = message
        self.retry_after = retry_after


class _Gone(Exception):
    """The client left before its request was whole."""


class Rates:
    """A token bucket for each client, of the clients seen last."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, client: str) -> bool:
        """Takes a token for a request, if the client has one."""
        now = self._clock()
        tokens, at = self._buckets.pop(client, (float(self._limit.burst), now))
        tokens = min(self._limit.burst, tokens + (now - at) * self._limit.per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - allowed, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return allowed


class Limits:
    """ASGI middleware that refuses what is too much, and hands on whole bodies."""

    def __init__(self, app: ASGIApp, settings: ServingSettings, telemetry: Telemetry) -> None:
        self._app = app
        self._largest = settings.largest_body_bytes
        self._most = settings.in_flight
        self._within = settings.request_within.total_seconds()
        self._rates = Rates(settings.rate) if settings.rate is not None else None
        self._forwarded = settings.rate is not None and settings.rate.forwarded
        self._in_flight = 0
        telemetry.in_flight.set_function(lambda: self._in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        self._in_flight += 1
        try:
            body = await self._admit(scope, receive)
            await self._app(scope, _Replay(body, receive) if body is not None else receive, send)
        except _Refused as found:
            await _answer(found)(scope, receive, send)
        except _Gone:
            pass
        finally:
            self._in_flight -= 1

    async def _admit(self, scope: Scope, receive: Receive) -> bytes | None:
        if self._in_flight > self._most:
            raise _Refused(503, "this server is busy", retry_after=1)
        if self._rates is not None and not self._rates.allows(self._client(scope)):
            raise _Refused(429, "too many requests from this client", retry_after=1)
        length = _last(scope, b"content-length")
        if length is not None and length.isdigit() and int(length) > self._largest:
            raise self._too_large()
        if scope["method"] in ("GET", "HEAD"):
            return None
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._within):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._largest:
                        raise self._too_large()
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise _Refused(408, f"the body did not come within {self._within:g} s") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> _Refused:
        return _Refused(413, f"the body is larger than {self._largest} bytes")

    def _client(self, scope: Scope) -> str:
        if self._forwarded:
            # The last address is the one that the front end saw; those before it are what the client claims.
            # A front end may add a line of its own instead of adding to the client's.
            said = _last(scope, b"x-forwarded-for") or b""
            return said.rsplit(b",", 1)[-1].strip().decode("latin-1")
        client = scope.get("client")
        return client[0] if client else ""


class _Replay:
    """Hands on a body that was read already."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _last(scope: Scope, name: bytes) -> bytes | None:
    """The last header of a name."""
    for key, value in reversed(scope["headers"]):
        if key == name:
            found: bytes = value
            return found
    return None


def _answer(found: _Refused) -> JSONResponse:
    # What is still to come of the request is not wanted.
    headers = {"connection": "close"}
    if found.retry_after is not None:
        headers["retry-after"] = str(found.retry_after)
    return refused(found.status, found.message, headers=headers)
