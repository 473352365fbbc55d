"""`python -m benchmarks.etl`: Beam beside DuckDB and Polars doing the same job by the same rules.

The job is the ETL step's: the lake's rows are checked, one a key is kept, windows are computed, and the result is
committed to the warehouse's tables. Beam and DuckDB read the lake from the DuckDB file, Polars from Parquet.
`polars_files` leaves the commit out, and ends with Parquet. `beam_inline`, when asked for, spills no shuffle.

Each run is a process of its own on a fresh copy of the input, and the engines take turns, so that whatever else
the machine does falls on all alike. A time is reported only when all outputs are equal, in every turn.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.etl.comparison import compare
from benchmarks.etl.workspace import REPOSITORY, SHAPES, Workspace

ENGINES = ("beam", "duckdb", "polars", "polars_files")
ON_REQUEST = ("beam_inline",)


@dataclass(frozen=True)
class Cost:
    """What one run took: CPU seconds of the process and its children, wall seconds, peak resident MB."""

    cpu_s: float
    wall_s: float
    rss_mb: float


@click.command()
@click.option("--rows", multiple=True, type=click.IntRange(min=1000), default=(1_750_000,), show_default=True)
@click.option(
    "--shape", "shapes", multiple=True, type=click.Choice(list(SHAPES)), default=("even",), show_default=True
)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--engine", "engines", multiple=True, type=click.Choice(ENGINES + ON_REQUEST), default=ENGINES)
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), default=Path(".caudal/bench/etl"))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path(".caudal/bench/etl.json"))
def main(
    rows: tuple[int, ...], shapes: tuple[str, ...], repeats: int, engines: tuple[str, ...], root: Path, out: Path
) -> None:
    """Measure, compare, print a table and write it as JSON."""
    sizes = [Workspace(root.absolute(), count, shape) for count in rows for shape in shapes]
    results = [_measure(size, engines, repeats) for size in sizes]
    _show(results)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results if len(results) > 1 else results[0], indent=2, sort_keys=True) + "\n")
    click.echo(f"written to {out}")
    if not all(result["equal"] for result in results):
        sys.exit(1)


def _measure(workspace: Workspace, engines: tuple[str, ...], repeats: int) -> dict[str, Any]:
    click.echo(f"{workspace.rows:,} rows, {workspace.shape}: making the lake", err=True)
    _apart(workspace.prepare)
    costs: dict[str, list[Cost]] = {engine: [] for engine in engines}
    for turn in range(repeats):
        # Every other turn the other way round: none always follows the same one.
        for engine in engines if turn % 2 == 0 else reversed(engines):
            cost = _run(workspace, engine)
            costs[engine].append(cost)
            click.echo(
                f"  {turn + 1}/{repeats} {engine:12} {cost.cpu_s:8.2f} CPU s {cost.rss_mb:7.0f} MB", err=True
            )
        found = _apart(compare, workspace, engines)
        if found:
            click.echo("\n".join([f"the outputs differ in turn {turn + 1}:", *found]), err=True)
            return {**_named(workspace), "equal": False, "differences": found, "engines": {}}
    return {
        **_named(workspace),
        "equal": True,
        "repeats": repeats,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "engines": {engine: _median(runs) for engine, runs in costs.items()},
        "runs": {engine: [asdict(cost) for cost in runs] for engine, runs in costs.items()},
    }


def _named(workspace: Workspace) -> dict[str, Any]:
    return {"rows": workspace.rows, "shape": workspace.shape}


def _run(workspace: Workspace, engine: str) -> Cost:
    folder = workspace.fresh(engine)
    command = [sys.executable, "-m", f"benchmarks.etl.{engine}_engine"]
    command += [str(workspace.root), str(workspace.rows), workspace.shape]
    path = os.pathsep.join(str(REPOSITORY / part) for part in ("libs", "services", "."))
    log = folder / "log.txt"
    began = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, str(folder)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": path},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise click.ClickException(f"{engine} failed ({process.returncode}):\n{log.read_text()[-4000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(round(usage.ru_utime + usage.ru_stime, 3), round(wall, 3), round(usage.ru_maxrss * unit / 1e6, 1))


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own: Linux counts what this one holds as a new child's peak memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _median(runs: list[Cost]) -> dict[str, float]:
    return {name: round(median(getattr(run, name) for run in runs), 2) for name in Cost.__dataclass_fields__}


def _show(results: list[dict[str, Any]]) -> None:
    click.echo(
        f"{'rows':>12}  {'shape':6}{'engine':13}"
        f"{'CPU s':>9}{'wall s':>9}{'RSS MB':>9}{'us CPU a row':>14}   CPU of Beam"
    )
    for result in results:
        beam = result["engines"].get("beam")
        for engine, cost in result["engines"].items():
            against = f"{beam['cpu_s'] / cost['cpu_s']:.2f} x" if beam and engine != "beam" else ""
            click.echo(
                f"{result['rows']:>12,}  {result['shape']:6}{engine:13}{cost['cpu_s']:>9.2f}{cost['wall_s']:>9.2f}"
                f"{cost['rss_mb']:>9.0f}{cost['cpu_s'] / result['rows'] * 1e6:>14.2f}   {against}"
            )
        if not result["equal"]:
            click.echo(f"{result['rows']:>12,}  the outputs differ: no time is reported")


if __name__ == "__main__":
    main()
