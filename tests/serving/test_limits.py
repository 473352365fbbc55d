"""What a server does not take on, and that it stays up through it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
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


LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def everything(connection: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    data = b""
    while True:
        try:
            part = connection.recv(1 << 20)
        except ConnectionResetError:
            return data
        data += part
        if not part:
            return data


def refusal_of(said: bytes) -> dict[str, Any]:
    (problem,) = json.loads(said.split(b"\r\n\r\n", 1)[1])["detail"]
    return dict(problem)


def memory(url: str) -> float:
    """MB that the server holds."""
    page = httpx2.get(f"{url}/metrics", timeout=10).text
    (line,) = [line for line in page.splitlines() if line.startswith("process_resident_memory_bytes ")]
    return float(line.split()[1]) / 1e6


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


@pytest.mark.parametrize(
    ("head", "block"),
    [
        (b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n", b"X-Some: " + b"y" * 1000 + b"\r\n"),
        (b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-Long: ", b"y" * 1000),
        (b"GET /livez?", b"y" * 1000),
        (b"", b"\r\n" * 500),
    ],
)
def test_headers_without_an_end_are_answered_431_and_no_more_is_taken(
    server: str, head: bytes, block: bytes
) -> None:
    sent = 0
    with connect(server) as connection:
        connection.sendall(head)
        try:
            while sent < 50_000_000:
                connection.sendall(block)
                sent += len(block)
        except (ConnectionResetError, BrokenPipeError):
            pass
        status, said = response(connection)
    assert status == 431
    assert refusal_of(said)["msg"] == "the headers are larger than 65536 bytes"
    # What lay in the sockets' buffers beyond the limit.
    assert sent < 20_000_000
    assert alive(server)


@pytest.mark.parametrize(("size", "status"), [(65_000, 200), (66_000, 431)])
def test_headers_may_have_64_kilobytes_whether_they_come_at_once_or_in_parts(
    server: str, size: int, status: int
) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * size + b"\r\n\r\n"
    for parts in (1, 50):
        with connect(server) as connection:
            length = len(request) // parts + 1
            for start in range(0, len(request), length):
                connection.sendall(request[start : start + length])
                time.sleep(0.002)
            assert response(connection)[0] == status


def test_requests_that_come_together_are_each_answered_however_large_their_bodies(
    server: str, bank_server: Any
) -> None:
    row = json.dumps({"instances": [example(bank_server)] * 500}).encode()
    assert len(row) > 100_000
    batch = f"POST /v1/predict/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(row)}\r\n\r\n".encode() + row
    with connect(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + batch * 3 + LAST)
        answers = everything(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 5


def test_a_request_before_headers_without_an_end_is_still_answered(server: str) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /v1/model HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nX: " + b"y" * 200_000)
        answers = everything(connection)
    assert answers.startswith(b"HTTP/1.1 200 OK")
    assert answers.count(b"HTTP/1.1 200") == 1


def test_headers_after_a_body_have_an_end_too(server: str) -> None:
    sent = 0
    with connect(server) as connection:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"2\r\n{}\r\n0\r\nX-Long: ")
        try:
            while sent < 200_000_000:
                connection.sendall(b"y" * 100_000)
                sent += 100_000
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert b"HTTP/1.1 408" in everything(connection)
    assert memory(server) < 1000


def test_a_connection_that_sends_a_byte_now_and_then_is_closed(
    bank_environment: Environment, bank_package: ModelPackage, bank_storage: Storage
) -> None:
    with served(bank_package.contract, bank_environment, bank_storage, idle_seconds=1) as server:
        slow = b"GET /livez HTTP/1.1\r\nX-Slow: "
        # The other one's request was answered before its body came.
        answered = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
        for head in (slow, answered):
            with connect(server.url) as connection:
                connection.sendall(head)
                began = time.monotonic()
                with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
                    while time.monotonic() < began + 5:
                        connection.sendall(b"y")
                        time.sleep(0.1)
        # Who sends whole requests may go on for longer.
        for _ in range(6):
            assert server.client.get("/livez").status_code == 200
            time.sleep(0.3)


def test_all_refusals_have_one_shape(bank_server: Any) -> None:
    client = bank_server.client
    for answer, status in (
        (client.get("/no/such/path"), 404),
        (client.get("/v1/predict"), 405),
        (client.post("/livez"), 405),
        (client.post("/v1/predict", json={}), 422),
        (client.post("/v1/predict", content=b" " * 1_000_001), 413),
    ):
        assert answer.status_code == status
        for problem in answer.json()["detail"]:
            assert set(problem) == {"loc", "msg", "type"}
    assert client.get("/v1/predict").headers["allow"] == "POST"
    with connect(bank_server.url) as connection:
        connection.sendall(b"HELLO\r\n\r\n")
        status, said = response(connection)
    assert (status, set(refusal_of(said))) == (400, {"loc", "msg", "type"})


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


def test_a_stopped_server_answers_requests_that_it_had_not_read_yet(
    bank_environment: Environment, bank_package: ModelPackage, bank_storage: Storage, bank_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    row = json.dumps(example(bank_server)).encode()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(row)}\r\n\r\n".encode()
    connections: list[socket.socket] = []
    ready = threading.Event()

    async def told_to_stop(counter: int) -> bool:
        if not ready.is_set():
            return False
        # The loop reads nothing between this and the shutdown.
        for connection in connections:
            connection.sendall(head + row)
        return True

    with served(bank_package.contract, bank_environment, bank_storage) as server:
        monkeypatch.setattr(server.server, "on_tick", told_to_stop)
        for _ in range(8):
            connections.append(connect(server.url))
            # The server has accepted it, and takes it for idle.
            connections[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert response(connections[-1])[0] == 200
        ready.set()
        for connection in connections:
            answer = everything(connection)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"connection: close" in answer
            connection.close()


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
        # So does what stands in a line before the last.
        lines = [("X-Forwarded-For", "203.0.113.10"), ("X-Forwarded-For", "198.51.100.1")]
        assert server.client.get("/v1/model", headers=lines).status_code == 429


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
