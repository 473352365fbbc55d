"""`make bench-etl`: the engines agree, and no time is reported when they don't."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from benchmarks.etl import __main__ as benchmark
from benchmarks.etl.comparison import differences
from benchmarks.etl.workspace import DATABASE, READY, REPOSITORY, Workspace, open_context

ROWS = 3_000
SHAPES = ["even", "hot"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["--rows", str(ROWS), "--repeats", "1", "--root", str(folder), "--out", str(folder / "etl.json")]
    arguments += [part for shape in SHAPES for part in ("--shape", shape)]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.etl", *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "CPU of Beam" in result.stdout
    return folder


def test_every_engine_is_measured_and_all_agree(measured: Path) -> None:
    results = json.loads((measured / "etl.json").read_text())
    assert [said["shape"] for said in results] == SHAPES
    for said in results:
        assert (said["rows"], said["equal"]) == (ROWS, True)
        assert set(said["engines"]) == {"beam", "duckdb", "polars", "polars_files"}
        for cost in said["engines"].values():
            assert set(cost) == {"cpu_s", "wall_s", "rss_mb"}
            assert min(cost.values()) > 0


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE warehouse.wallet SET customer_id_mean_amount_7d = customer_id_mean_amount_7d * 1.0001 "
         "WHERE rowid = 5", "customer_id_mean_amount_7d"),
        ("UPDATE warehouse.wallet SET terminal_id_rate_is_fraud_1d = 0.5 WHERE terminal_id_rate_is_fraud_1d "
         "IS NULL", "terminal_id_rate_is_fraud_1d"),
        ("UPDATE warehouse.wallet SET night = NOT night WHERE rowid = 5", "night"),
        ("DELETE FROM warehouse.wallet WHERE rowid = 5", "being there"),
        ("UPDATE warehouse.wallet_rejected SET _reasons = ['none'] WHERE rowid = 1", "_reasons"),
    ],
)  # fmt: skip
def test_a_difference_in_a_single_value_is_found(measured: Path, tmp_path: Path, change: str, found: str) -> None:
    workspace = Workspace(measured, ROWS)
    contract = open_context(workspace.base).contract
    altered = tmp_path / DATABASE
    altered.write_bytes((workspace.engine("duckdb") / DATABASE).read_bytes())
    assert differences(contract, workspace.engine("beam"), tmp_path) == []
    with duckdb.connect(str(altered)) as connection:
        connection.execute(change)
    assert any(text.endswith(found) for text in differences(contract, workspace.engine("beam"), tmp_path))


def test_outputs_that_differ_in_a_later_turn_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns = iter([[], ["beam: warehouse.wallet: 1 rows differ in night"], []])
    monkeypatch.setattr(benchmark, "_run", lambda *_: benchmark.Cost(1.0, 1.0, 1.0))
    monkeypatch.setattr(
        benchmark, "_apart", lambda called, *_: next(turns) if called is benchmark.compare else None
    )

    result = benchmark._measure(Workspace(tmp_path, ROWS), ("beam", "duckdb"), 3)

    assert not result["equal"]
    assert result["engines"] == {}


def test_a_lake_is_made_again_when_what_it_follows_from_has_changed(measured: Path) -> None:
    workspace = Workspace(measured, ROWS)
    ready = workspace.base / READY
    made = ready.stat().st_mtime_ns
    workspace.prepare()
    assert ready.stat().st_mtime_ns == made
    ready.write_text("by another simulator")
    workspace.prepare()
    assert ready.read_text() != "by another simulator"


def test_one_entity_owns_half_of_all_rows_in_the_hot_shape(measured: Path) -> None:
    with duckdb.connect(str(Workspace(measured, ROWS, "hot").base / DATABASE), read_only=True) as connection:
        [[share]] = connection.sql("SELECT avg(CAST(terminal_id = 0 AS INT)) FROM lake.wallet").fetchall()
    assert 0.45 < share < 0.55
