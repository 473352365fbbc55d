"""What a server does not take on, and that it stays up through it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from caudal.environment import Environment
from caudal.package import ModelPackage
from caudal.serving_environment import RateLimit, ServingSettings
from caudal.storage import Storage
from caudal.unit import CONTRACT_FILE, ENVIRONMENT_FILE
from serving.limits import Rates
from tests.serving.made import served
from tests.serving.test_answers import example

# What a process of a test may have open: many more connections than this are tried.
FEW_FILES = 256


def limited(environment: Environment, **limits: Any) -> Environment:
    """The same environment with other limits."""
    settings = ServingSettings.model_validate({**environment.serving.model_dump(), **limits})
    return environment.model_copy(update={"serving": settings})


@contextmanager
def process(repository: Path, environment: Environment, package: ModelPackage, **limits: Any) -> Iterator[Any]:
    """`python -m serving` as a container runs it; yields its address and the process."""
    config = environment.root_path / "config"
    config.mkdir(exist_ok=True)
    (config / ENVIRONMENT_FILE).write_text(limited(environment, **limits).to_yaml())
    (config / CONTRACT_FILE).write_text(package.contract.text)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = [str(repository / "libs"), str(repository / "services")]
    running = subprocess.Popen(
        [sys.executable, "-m", "serving", "--config", config.as_uri(), "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES)),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                if httpx2.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            assert running.poll() is None, running.stderr and running.stderr.read().decode()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield url, running
    finally:
        running.kill()
        running.communicate()


@pytest.fixture(scope="module")
def server(repository: Path, bank_environment: Environment, bank_package: ModelPackage) -> Iterator[str]:
    with process(repository, bank_environment, bank_package, request_within="1s", in_flight=8) as (url, running):
        yield url
        assert running.poll() is None, "the server did not stay up"


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    made = socket.create_connection((host, int(port)), timeout=10)
    return made


def response(connection: socket.socket) -> tuple[int, bytes]:
    """A response's status and what came with it, as far as the server sent it before it hung up."""
    data = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            break
        data += part
        if not part or (b"\r\n\r\n" in data and data.endswith(b"}")):
            break
    return int(data.split(b" ", 2)[1]), data


def alive(url: str) -> bool:
    return httpx2.get(f"{url}/readyz", timeout=10).status_code == 200


def test_a_body_of_500_megabytes_is_refused_before_it_is_sent(server: str) -> None:
    with connect(server) as connection:
        head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500000000\r\n\r\n"
        connection.sendall(head.encode() + b"{" * 1000)
        status, said = response(connection)
    assert status == 413
    assert b"larger than 1000000 bytes" in said
    assert alive(server)


def test_a_body_without_a_length_is_refused_as_soon_as_too_much_has_come(server: str) -> None:
    block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with connect(server) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 500_000_000:
                connection.sendall(block)
                sent += 0x10000
        except (ConnectionResetError, BrokenPipeError):
            pass
    # What it read beyond the limit, and what lay in the sockets' buffers.
    assert sent < 50_000_000
    assert alive(server)


def test_a_body_that_does_not_come_is_given_up(server: str) -> None:
    with connect(server) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        status, said = response(connection)
    assert status == 408
    assert b"did not come within 1 s" in said


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"HELLO\r\n\r\n", b"\x00" * 65536])
def test_what_is_not_http_is_answered_400_and_nothing_more(server: str, junk: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        data = connection.recv(65536)
    assert data == b"" or data.startswith(b"HTTP/1.1 400")
    assert alive(server)


def test_more_requests_than_fit_are_answered_503_and_the_probes_still_get_through(server: str) -> None:
    waiting = []
    try:
        for _ in range(8):
            connection = connect(server)
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
            waiting.append(connection)
        end = time.monotonic() + 1
        while (refused := httpx2.post(f"{server}/v1/predict", content=b"{}")).status_code != 503:
            assert time.monotonic() < end
        assert refused.headers["retry-after"] == "1"
        assert alive(server)
    finally:
        for connection in waiting:
            connection.close()


def test_more_connections_than_the_process_may_open_do_not_end_it(server: str) -> None:
    kept = httpx2.Client(base_url=server, timeout=10)
    assert kept.get("/readyz").status_code == 200
    connections: list[socket.socket] = []
    try:
        for _ in range(3 * FEW_FILES):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", int(server.rsplit(":", 1)[1])))
            connections.append(connection)
        # Who has a connection is served all the while.
        assert kept.get("/readyz").status_code == 200
    finally:
        for connection in connections:
            connection.close()
        kept.close()
    assert alive(server)


def test_a_stopped_server_answers_what_is_in_flight_and_ends_without_an_error(
    repository: Path, bank_environment: Environment, bank_package: ModelPackage, bank_server: Any
) -> None:
    row = json.dumps(example(bank_server)).encode()
    with process(repository, bank_environment, bank_package) as (url, running), connect(url) as connection:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(row)}\r\n\r\n".encode()
        connection.sendall(head + row[:20])
        time.sleep(0.3)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            connect(url)
        connection.sendall(row[20:])
        status, said = response(connection)
        assert status == 200
        assert bank_package.version.encode() in said
        assert running.wait(timeout=10) == 0


def test_a_client_that_sends_too_often_is_answered_429_until_it_has_paused(
    bank_environment: Environment, bank_package: ModelPackage, bank_storage: Storage
) -> None:
    slow = limited(bank_environment, rate={"per_second": 10, "burst": 5})
    with served(bank_package.contract, slow, bank_storage) as server:
        answers = [server.client.get("/v1/model").status_code for _ in range(30)]
        assert answers[:5] == [200] * 5
        assert answers.count(429) > 10
        assert server.client.get("/livez").status_code == 200
        time.sleep(0.3)
        assert server.client.get("/v1/model").status_code == 200


def test_behind_a_front_end_clients_are_told_apart_by_the_address_that_it_saw(
    bank_environment: Environment, bank_package: ModelPackage, bank_storage: Storage
) -> None:
    slow = limited(bank_environment, rate={"per_second": 0.01, "burst": 1, "forwarded": True})
    with served(bank_package.contract, slow, bank_storage) as server:

        def status(forwarded: str) -> int:
            return server.client.get("/v1/model", headers={"X-Forwarded-For": forwarded}).status_code

        assert status("198.51.100.1") == 200
        assert status("198.51.100.2") == 200
        # What stands before the last address is only claimed.
        assert status("203.0.113.9, 198.51.100.1") == 429


def test_a_bucket_fills_at_its_rate_and_no_further_than_its_burst() -> None:
    now = [0.0]
    rates = Rates(RateLimit(per_second=2, burst=3), clock=lambda: now[0])
    assert [rates.allows("a") for _ in range(5)] == [True, True, True, False, False]
    assert rates.allows("b")
    now[0] = 0.5
    assert [rates.allows("a") for _ in range(2)] == [True, False]
    now[0] = 1000
    assert [rates.allows("a") for _ in range(5)] == [True, True, True, False, False]


def test_buckets_are_kept_of_the_clients_seen_last() -> None:
    rates = Rates(RateLimit(per_second=0.001, burst=1), clock=lambda: 0.0)
    assert rates.allows("first")
    for client in range(10_000):
        rates.allows(str(client))
    assert len(rates._buckets) == 10_000
    assert rates.allows("first")
