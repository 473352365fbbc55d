"""`caudal simulate`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline.cli import cli


def simulate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["simulate", "wallet", *map(str, arguments)])


def test_it_writes_the_files_and_says_what_they_hold(tmp_path: Path) -> None:
    result = simulate("--rows", "3000", "--out", tmp_path / "landing", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "landing").iterdir())]
    assert said["files"] == len(tables) == said["days"]
    assert said["rows"] == sum(table.num_rows for table in tables)
    assert said["first_day"] == "2018-04-01"


def test_people_get_a_table(tmp_path: Path) -> None:
    result = simulate("--rows", "3000", "--out", tmp_path, "--every", "week", "--format", "csv")
    assert result.exit_code == 0, result.output
    assert "customers" in result.stdout
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv"] * 3


def test_seed_drift_and_dirt_change_the_files(tmp_path: Path) -> None:
    for name, more in {
        "a": (),
        "b": ("--seed", "1"),
        "c": ("--inject", "amounts@2", "--inject", "fraud@3:9"),
        "d": ("--dirt", "all", "--dirt", "late=0.2"),
    }.items():
        assert simulate("--rows", "3000", "--out", tmp_path / name, *more).exit_code == 0
    first, second = ("2018-04-01.parquet", "2018-04-03.parquet")
    plain = {name: (tmp_path / "a" / name).read_bytes() for name in (first, second)}
    assert (tmp_path / "b" / first).read_bytes() != plain[first]
    assert (tmp_path / "c" / first).read_bytes() == plain[first]
    assert (tmp_path / "c" / second).read_bytes() != plain[second]
    assert any(path.name.endswith("-late.parquet") for path in (tmp_path / "d").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--inject", "prices@3"), "kind of amounts"),
        (("--inject", "amounts@500"), "after the last day"),
        (("--dirt", "mud"), "not one of nulls"),
        (("--rows", "0"), "range"),
    ],
)
def test_nonsense_is_refused_with_the_mend(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = simulate("--rows", "3000", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "out").exists()
