"""A load generator: each of some connections sends its next request when the last one is answered.

It speaks just enough HTTP/1.1 for a server whose answers have a Content-Length, so it costs a tenth of what the
server costs and leaves the second core alone.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import numpy as np

_PATIENCE = 30
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_VERSION = re.compile(rb'"model_version":"([^"]+)"')


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: of each answer with status 200, in seconds.
        failures: other statuses, and connections that broke, by name.
        versions: answers by model version.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """A percentile of the latencies, in milliseconds."""
        return float(np.percentile(self.latencies, share * 100) * 1000)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


def request(url: str, path: str, body: bytes) -> bytes:
    """A POST request, as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Client(asyncio.Protocol):
    def __init__(self, sent: bytes, until: float, outcome: Outcome, done: asyncio.Future[None]) -> None:
        self._request = sent
        self._until = until
        self._outcome = outcome
        self._done = done
        self._buffer = b""
        self._started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._started = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        assert length is not None
        if len(self._buffer) < end + 4 + int(length[1]):
            return
        now = time.perf_counter()
        status = self._buffer[9:12]
        if status == b"200":
            self._outcome.latencies.append(now - self._started)
            version = _VERSION.search(self._buffer, end)
            if version is not None:
                self._outcome.versions[version[1].decode()] += 1
        else:
            self._outcome.failures[f"status {status.decode()}"] += 1
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self._until:
            self._outcome.failures["connection lost"] += 1
        if not self._done.done():
            self._done.set_result(None)


async def load(url: str, sent: bytes, clients: int, seconds: float) -> Outcome:
    """Sends one request over and over, from so many connections, for so long."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    assert parts.hostname is not None
    outcome = Outcome()
    started = time.perf_counter()
    until = started + seconds
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(clients)]
    for end in ends:
        await loop.create_connection(
            lambda end=end: _Client(sent, until, outcome, end),  # type: ignore[misc]
            parts.hostname,
            parts.port or 80,
        )
    async with asyncio.timeout(seconds + _PATIENCE):
        await asyncio.gather(*ends)
    outcome.seconds = time.perf_counter() - started
    return outcome
