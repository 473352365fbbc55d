"""The process: uvicorn around the application."""

from __future__ import annotations

import gc
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from caudal.errors import UsageError
from serving.app import create_app
from serving.telemetry import log_to_stderr

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.storage import Storage

_IDLE_SECONDS = 30
_BACKLOG = 4096


class _Protocol(HttpToolsProtocol):
    """A connection that never begins a request is closed as one that rests between two.

    uvicorn waits for the first request for ever, so idle connections would take every file descriptor.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


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
    except OSError as error:
        listening.close()
        raise UsageError(
            f"this address can't be listened on: {error.strerror}",
            where=f"{host}:{port}",
            mend="choose another port, or stop what listens there",
        ) from error
    return listening


def serve(contract: Contract, environment: Environment, storage: Storage, listening: socket.socket) -> None:
    """Serves until the process is told to stop; requests in flight are answered first."""
    log_to_stderr()
    # uvicorn raises the signal again once it has shut down: to be told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _allow_many_connections()
    config = uvicorn.Config(
        create_app(contract, environment, storage),
        loop="auto",
        http=_Protocol,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(environment.serving.drain.total_seconds())),
    )
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Once everything is loaded, the collector no longer looks at what stays for good: its pauses become short."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
