"""`python -m benchmarks.serve`: the server under load, beside an endpoint with no model.

The models are those of the sample data set's replay. Both servers run at the same time and are loaded in turns, so
that whatever else the machine does falls on both alike; figures are medians over the rounds. Everything happens on
the loopback interface.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import uvloop

from benchmarks.serve import promises
from benchmarks.serve.load import Outcome, load, request
from benchmarks.serve.monitor_cost import SIZES, monitor_cost
from caudal.backends import open_storage
from caudal.contract import Contract, load_contract
from caudal.environment import Environment, load_environment
from caudal.errors import UsageError
from caudal.package import ModelPackage, open_package
from caudal.promotions import Promotion, Promotions
from caudal.storage.files import file_uri
from caudal.unit import CONTRACT_FILE, ENVIRONMENT_FILE

REPOSITORY = Path(__file__).resolve().parents[2]
CONTRACT = "bank_marketing"
CLIENTS = (1, 8, 64)
ONE, MANY = "/v1/predict", "/v1/predict/batch"
_LARGE_BODY = 500_000_000


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """CPU that the process has used; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Memory that the process holds, in MB; 0 where the system does not tell."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except OSError:
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Bench:
    """The models, and the environment in which they are served."""

    contract: Contract
    environment: Environment
    ledger: Promotions
    first: Promotion
    second: Promotion
    package: ModelPackage

    def promote(self, promotion: Promotion, request: str) -> None:
        """Makes a model live."""
        self.ledger.promote(
            version=promotion.version,
            model_type=promotion.model_type,
            package=promotion.package,
            as_of=promotion.as_of,
            by="benchmark",
            reason="benchmark",
            snapshot=promotion.snapshot,
            request=request,
        )

    @property
    def instance(self) -> dict[str, Any]:
        """A request: the package's made-up row with a key."""
        return {self.contract.key: 1, **self.package.input_example}


def replay(folder: Path) -> Path:
    """Replays the sample below the folder, once."""
    replayed = folder / "replay"
    caudal = [sys.executable, "-m", "pipeline.cli"]
    subprocess.run([*caudal, "replay", CONTRACT, "--root", str(replayed)], check=True, cwd=REPOSITORY)
    return replayed


def prepare(folder: Path, replayed: Path) -> Bench:
    """Serves the last two champions of a replay from a ledger of the benchmark's own, below the folder."""
    contract = load_contract(REPOSITORY / "contracts" / f"{CONTRACT}.yaml")
    local = REPOSITORY / "environments" / "local.yaml"
    source = load_environment(local, root=replayed)
    storage = open_storage(source)
    history = Promotions(storage, source.ledger(CONTRACT, "promotions")).history()
    champions = list({p.version: p for p in history if p.role == "champion"}.values())
    if len(champions) < 2:
        raise UsageError("fewer than two models were promoted", where=str(replayed), mend="replay again")
    root = folder / "served"
    shutil.rmtree(root, ignore_errors=True)
    environment = load_environment(local, root=root)
    ledger = Promotions(open_storage(environment), environment.ledger(CONTRACT, "promotions"))
    first, second = champions[-2:]
    config = root / "config"
    config.mkdir(parents=True)
    (config / CONTRACT_FILE).write_text(contract.text)
    (config / ENVIRONMENT_FILE).write_text(environment.to_yaml())
    bench = Bench(contract, environment, ledger, first, second, open_package(storage, second.package))
    bench.promote(first, "the first")
    return bench


@contextmanager
def running(bench: Bench) -> Iterator[tuple[Server, Server]]:
    """The server, and the endpoint with no model."""
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("libs", "services", "."))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    ports = _free_ports(2)
    config = file_uri(bench.environment.root_path / "config")
    commands = {
        "caudal": ["serving", "--config", config, "--host", "127.0.0.1", "--port", str(ports[0])],
        "no model": ["benchmarks.serve.plain", json.dumps(bench.instance), str(ports[1])],
    }
    servers = [
        Server(
            name,
            f"http://127.0.0.1:{port}",
            subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=subprocess.DEVNULL),
        )
        for port, (name, command) in zip(ports, commands.items(), strict=True)
    ]
    try:
        for server in servers:
            _wait(server)
        yield servers[0], servers[1]
    finally:
        for server in servers:
            server.process.terminate()
        for server in servers:
            server.process.wait(timeout=20)


async def compare(bench: Bench, servers: tuple[Server, Server], rounds: int, seconds: float) -> dict[str, Any]:
    """Latency and throughput of both servers, in turns, at each number of clients."""
    body = json.dumps(bench.instance).encode()
    found: dict[str, Any] = {}
    for server in servers:
        await load(server.url, request(server.url, ONE, body), 8, 1.0)
    for clients in CLIENTS:
        figures: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                before = server.cpu_seconds()
                outcome = await load(server.url, request(server.url, ONE, body), clients, seconds)
                _no_failure(outcome)
                figures[server.name].append(_figures(outcome, server.cpu_seconds() - before))
        medians = {
            name: {figure: median(one[figure] for one in made) for figure in made[0]}
            for name, made in figures.items()
        }
        ours, plain = (medians[server.name] for server in servers)
        found[str(clients)] = {
            **medians,
            "p50_ratio": median(
                one["p50_ms"] / other["p50_ms"]
                for one, other in zip(*(figures[server.name] for server in servers), strict=True)
            ),
            "cpu_ratio": ours["cpu_us"] / plain["cpu_us"] if plain["cpu_us"] else None,
        }
    return found


async def other_requests(bench: Bench, server: Server, seconds: float) -> dict[str, Any]:
    """Reasons, and batches of 1,000 rows, one client."""
    one = json.dumps(bench.instance).encode()
    batch = json.dumps({"instances": [bench.instance] * 1000}).encode()
    reasons = await load(server.url, request(server.url, f"{ONE}?reasons=5", one), 1, seconds)
    many = await load(server.url, request(server.url, MANY, batch), 1, seconds)
    _no_failure(reasons)
    _no_failure(many)
    return {
        "reasons": _figures(reasons, 0.0),
        "batch_of_1000": {**_figures(many, 0.0), "rows_per_second": many.per_second * 1000},
    }


async def change_of_model(bench: Bench, server: Server, seconds: float) -> dict[str, Any]:
    """A promotion and a rollback while 8 clients send requests."""
    body = json.dumps(bench.instance).encode()
    sending = asyncio.create_task(load(server.url, request(server.url, ONE, body), 8, seconds))
    await asyncio.sleep(seconds / 3)
    bench.promote(bench.second, f"the second, at {time.time()}")
    await asyncio.sleep(seconds / 3)
    bench.ledger.roll_back(as_of=bench.first.as_of, by="benchmark", reason="benchmark")
    outcome = await sending
    last = json.loads(await asyncio.to_thread(_get, f"{server.url}/v1/model"))["champion"]["version"]
    return {
        **_figures(outcome, 0.0),
        "failures": dict(outcome.failures),
        "answers_by_version": dict(outcome.versions),
        "rolled_back": last == bench.first.version,
    }


async def soak(bench: Bench, server: Server, seconds: float) -> dict[str, Any]:
    """Memory over a longer run with 8 clients, with a change of model in every tenth of it."""
    body = json.dumps(bench.instance).encode()
    resident = []
    served = 0
    for part in range(10):
        bench.promote((bench.second, bench.first)[part % 2], f"soak {part} at {time.time()}")
        outcome = await load(server.url, request(server.url, ONE, body), 8, seconds / 10)
        _no_failure(outcome)
        served += len(outcome.latencies)
        resident.append(server.resident_mb())
    # The first parts fill caches and load the second model for the first time.
    return {
        "seconds": seconds,
        "requests": served,
        "resident_mb": resident,
        "growth_mb": resident[-1] - resident[3],
    }


async def abuse(bench: Bench, server: Server, connections: int) -> dict[str, Any]:
    """A 500 MB body, and very many connections that send nothing, while one client works on."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connections = min(connections, most - 200)
    before = server.resident_mb()
    sent, status = await asyncio.to_thread(_send_large, server)
    port = int(server.url.rsplit(":", 1)[1])
    idle: list[socket.socket] = []
    body = json.dumps(bench.instance).encode()
    try:
        for _ in range(connections):
            one = socket.create_connection(("127.0.0.1", port), timeout=10)
            idle.append(one)
        outcome = await load(server.url, request(server.url, ONE, body), 8, 3.0)
        held = server.resident_mb()
    finally:
        for one in idle:
            one.close()
    after = await load(server.url, request(server.url, ONE, body), 8, 1.0)
    return {
        "large_body": {"bytes": _LARGE_BODY, "status": status, "taken_bytes": sent},
        "idle_connections": len(idle),
        "while_idle": {**_figures(outcome, 0.0), "failures": dict(outcome.failures)},
        "afterwards": {**_figures(after, 0.0), "failures": dict(after.failures)},
        "resident_mb": {"before": before, "with_connections": held, "after": server.resident_mb()},
        "alive": server.process.poll() is None,
    }


def _send_large(server: Server) -> tuple[int, str]:
    """Sends a body of 500 MB until the server refuses it; how much it took, and its status."""
    block = b" " * (1 << 20)
    sent = 0
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as connection:
        connection.sendall(f"POST {ONE} HTTP/1.1\r\nHost: x\r\nContent-Length: {_LARGE_BODY}\r\n\r\n".encode())
        status = connection.recv(12).decode().rsplit(" ", 1)[-1]
        try:
            while sent < _LARGE_BODY:
                connection.sendall(block)
                sent += len(block)
        except OSError:
            pass
    return sent, status


def _figures(outcome: Outcome, cpu: float) -> dict[str, float]:
    return {
        "p50_ms": outcome.percentile(0.50),
        "p90_ms": outcome.percentile(0.90),
        "p99_ms": outcome.percentile(0.99),
        "per_second": outcome.per_second,
        "cpu_us": cpu / len(outcome.latencies) * 1e6,
    }


def _no_failure(outcome: Outcome) -> None:
    if outcome.failures or not outcome.latencies:
        raise UsageError(f"requests failed: {dict(outcome.failures)}", mend="look at the server's log")


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        read: bytes = answer.read()
        return read


def _wait(server: Server) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and server.process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise UsageError(f"the server '{server.name}' did not start", mend="start it by hand and read its log")


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def table(result: dict[str, Any]) -> str:
    """The figures for people, as a Markdown table."""
    lines = [
        "| clients | server | p50 ms | p90 ms | p99 ms | requests/s | CPU us a request |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for clients, found in result["compared"].items():
        for name in ("caudal", "no model"):
            one = found[name]
            lines.append(
                f"| {clients} | {name} | {one['p50_ms']:.2f} | {one['p90_ms']:.2f} | {one['p99_ms']:.2f} "
                f"| {one['per_second']:,.0f} | {one['cpu_us']:.0f} |"
            )
        lines.append(f"| {clients} | ratio | {found['p50_ratio']:.2f} | | | | {found['cpu_ratio'] or 0:.2f} |")
    return "\n".join(lines)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=REPOSITORY / ".caudal" / "bench" / "serve.json")
@click.option("--rounds", default=5, show_default=True, help="Turns of each server at each number of clients.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one turn.")
@click.option("--soak-seconds", default=60.0, show_default=True, help="Length of the soak.")
@click.option("--connections", default=10_000, show_default=True, help="Idle connections at once.")
@click.option(
    "--monitor-rows",
    multiple=True,
    type=int,
    default=SIZES,
    show_default=True,
    help="New rows for the monitor to look at.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A replay's root whose models are served; default: one is made.",
)
@click.option("--check", is_flag=True, help="Exit with status 1 when a promise is not kept.")
def main(
    out: Path,
    rounds: int,
    seconds: float,
    soak_seconds: float,
    connections: int,
    monitor_rows: tuple[int, ...],
    root: Path | None,
    check: bool,
) -> None:  # fmt: skip
    """Measures the server, says whether it keeps its promises, and writes every figure as JSON."""
    folder = out.parent / "serve"
    replayed = root.resolve() if root else replay(folder)
    bench = prepare(folder, replayed)

    async def measure(servers: tuple[Server, Server]) -> dict[str, Any]:
        ours = servers[0]
        return {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]},
            "compared": await compare(bench, servers, rounds, seconds),
            "others": await other_requests(bench, ours, seconds),
            "change_of_model": await change_of_model(bench, ours, max(6.0, 3 * seconds)),
            "soak": await soak(bench, ours, soak_seconds),
            "abuse": await abuse(bench, ours, connections),
        }

    with running(bench) as servers:
        result = uvloop.run(measure(servers))
    promised = promises.judge(result)
    result["promises"] = promises.as_json(promised)
    local = REPOSITORY / "environments" / "local.yaml"
    result["monitor"] = monitor_cost(
        bench.contract, local, replayed, bench.second, folder / "monitored", monitor_rows
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    click.echo(f"{table(result)}\n\n{promises.as_table(promised)}")
    click.echo("\n| new rows | monitor CPU s | wall s | CPU us a row |\n|--:|--:|--:|--:|")
    for one in result["monitor"]:
        click.echo(f"| {one['rows']:,} | {one['cpu_s']:.2f} | {one['wall_s']:.2f} | {one['cpu_us_per_row']:.2f} |")
    for name in ("others", "change_of_model", "soak", "abuse"):
        click.echo(f"{name}: {json.dumps(result[name])}")
    click.echo(f"every figure: {out}")
    if check and not promises.all_kept(promised):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
