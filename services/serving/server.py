"""The process: uvicorn around the application."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from caudal.errors import UsageError
from serving.app import create_app
from serving.refusals import refused
from serving.telemetry import log_to_stderr

if TYPE_CHECKING:
    from fastapi import FastAPI

    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.serving_environment import ServingSettings
    from caudal.storage import Storage

LARGEST_HEAD = 65_536
"""Bytes within which a request's address and headers must end."""

_IDLE_SECONDS = 30
_BACKLOG = 4096
_LAST_READ_SECONDS = 0.1


class _State(ServerState):
    """What the connections share: whether the server was told to stop."""

    stopping = False


class _Protocol(HttpToolsProtocol):
    """A connection has 30 s until a request's headers are whole, and 64 kB for them.

    uvicorn sets neither limit. It waits for the first request for ever, and for the rest of any that began:
    connections that send a byte now and then would take every file descriptor, and headers without an end the
    memory.
    """

    server_state: _State

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # Bytes since the parser had something for the application.
        self._unread = 0
        self._refused = False
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        # Kept from uvicorn, which would cancel it.
        timer, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        while data and not self._refused and not self.transport.is_closing():
            # One byte too many shows that there are more.
            size = LARGEST_HEAD + 1 - self._unread
            part, data = data[:size], data[size:]
            self._unread += len(part)
            super().data_received(part)
            if self._unread > LARGEST_HEAD:
                self._refuse(431, f"the headers are larger than {LARGEST_HEAD} bytes")
        if timer is None:
            return
        if self.at_work:
            timer.cancel()
        else:
            self.timeout_keep_alive_task = timer

    def on_headers_complete(self) -> None:
        self._unread = 0
        super().on_headers_complete()
        if self.server_state.stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    @property
    def at_work(self) -> bool:
        """Whether a request is being answered."""
        # None before the first request, which uvicorn's annotation does not say.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int, message: str) -> None:
        """Answers for what is no request, and closes; requests that came before it are answered first."""
        self._refused = True
        if self.at_work:
            self.cycle.keep_alive = False
            return
        answer = refused(status, message, headers={"connection": "close"})
        headers = [b"%s: %s\r\n" % pair for pair in answer.raw_headers]
        self.transport.write(b"".join([STATUS_LINE[status], *headers, b"\r\n", answer.body]))
        self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """A socket that waits for connections.

    Raises:
        UsageError: the address is taken, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, UnicodeError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise UsageError(
            f"this address can't be listened on: {reason}",
            where=f"{host}:{port}",
            mend="choose another port or host, or stop what listens there",
        ) from error
    return listening


def serve(contract: Contract, environment: Environment, storage: Storage, listening: socket.socket) -> None:
    """Serves until the process is told to stop; requests in flight are answered first."""
    log_to_stderr()
    # uvicorn raises the signal again once it has shut down: to be told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _allow_many_connections()
    Server(create_app(contract, environment, storage), environment.serving).run(sockets=[listening])


class Server(uvicorn.Server):
    """uvicorn as a server of predictions needs it."""

    def __init__(self, app: FastAPI, settings: ServingSettings, idle_seconds: int = _IDLE_SECONDS) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="auto",
                http=_Protocol,
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=idle_seconds,
                timeout_graceful_shutdown=max(1, round(settings.drain.total_seconds())),
            )
        )
        self.server_state = self._state = _State()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        # Once everything is loaded, the collector no longer looks at what stays for good: its pauses become short.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: Any = None) -> None:
        """Takes no new connection, reads what was sent, and closes a connection when it has been answered.

        uvicorn closes at once each connection on which it has read no request: one that lies in the system's
        buffer would get no answer.
        """
        for server in self.servers:
            server.close()
        self._state.stopping = True
        for connection in list(self._state.connections):
            if isinstance(connection, _Protocol) and connection.at_work:
                connection.cycle.keep_alive = False
        await asyncio.sleep(_LAST_READ_SECONDS)
        # A loop that was busy all the while has its timers called before it reads again.
        for _ in range(3):
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
