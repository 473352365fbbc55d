"""A replay can make up its sample, with a change injected on a known day."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from caudal.contract import load_contract
from caudal.errors import UsageError
from pipeline.cli import cli
from pipeline.replay.sample import deliveries
from pipeline.replay.simulated import SampleRequest, simulated_sample
from tests.world import edit


def test_a_simulated_sample_is_made_once_for_a_request(tmp_path: Path) -> None:
    request = SampleRequest(rows=2000, days=21)
    folder = simulated_sample("wallet", request, tmp_path)
    files = sorted(folder.glob("*.parquet"))
    assert len(files) == 3
    made = [file.stat().st_mtime_ns for file in files]
    assert simulated_sample("wallet", request, tmp_path) == folder
    assert [file.stat().st_mtime_ns for file in files] == made
    assert simulated_sample("wallet", SampleRequest(rows=2000, days=21, seed=1), tmp_path) != folder


def test_another_simulator_makes_another_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = simulated_sample("wallet", SampleRequest(rows=500, days=7), tmp_path)
    edit(monkeypatch, "data/wallet/simulator.py")
    assert simulated_sample("wallet", SampleRequest(rows=500, days=7), tmp_path) != folder


def test_an_injection_changes_what_comes_after_its_day_and_nothing_before(tmp_path: Path) -> None:
    plain = simulated_sample("wallet", SampleRequest(2000, 21), tmp_path)
    changed = simulated_sample("wallet", SampleRequest(2000, 21, inject=("amounts@14",)), tmp_path)
    pairs = zip(sorted(plain.glob("*")), sorted(changed.glob("*")), strict=True)
    assert [pq.read_table(one).equals(pq.read_table(other)) for one, other in pairs] == [True, True, False]


def test_rows_of_dirty_files_come_when_the_files_landed(tmp_path: Path, repository: Path) -> None:
    contract = load_contract(repository / "contracts" / "wallet.yaml")
    folder = simulated_sample("wallet", SampleRequest(2000, 21, dirt=("late=0.2", "nulls=0.05")), tmp_path)
    files = sorted(folder.glob("*.parquet"))
    found = deliveries(contract, files, "week", as_landed=True)
    assert sum(delivery.rows.num_rows for delivery in found) == sum(pq.read_metadata(f).num_rows for f in files)
    late = without = 0
    for delivery in found:
        times = delivery.rows.column("occurred_at")
        without += times.null_count
        late += sum(time is not None and time < delivery.since for time in times.to_pylist())
        assert all(time is None or time < delivery.as_of for time in times.to_pylist())
    assert late > 100
    assert without > 5
    with pytest.raises(UsageError, match="have no 'occurred_at'"):
        deliveries(contract, files, "week")


def test_a_replay_with_an_injected_change_brings_more_rows_and_a_report(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    wanted = ["--rows", "2000", "--days", "21", "--every", "week", "--inject", "fraud@14:60"]
    answer = CliRunner().invoke(cli, ["replay", "wallet", *wanted, "--root", str(tmp_path / "root"), "--json"])
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert json.loads(answer.stdout)["rows"]["warehouse"] > 2000
    assert (tmp_path / "root" / "report.html").exists()


def test_a_replay_with_dirt_accounts_for_every_row(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    wanted = ["--rows", "2000", "--days", "21", "--dirt", "all", "--dirt", "duplicates=0.1", "--every", "week"]
    answer = CliRunner().invoke(cli, ["replay", "wallet", *wanted, "--root", str(tmp_path / "root"), "--json"])
    assert answer.exit_code == 0, (answer.output, answer.exception)
    rows = json.loads(answer.stdout)["rows"]
    (files,) = (tmp_path / "root-samples").glob("*/files")
    landed = pa.concat_tables(
        [pq.read_table(file) for file in sorted(files.glob("*.parquet"))], promote_options="permissive"
    )
    assert rows["landed"] == landed.num_rows == rows["quarantined"] + rows["lake"]
    assert rows["lake"] == rows["duplicates"] + rows["rejected"] + rows["removed"] + rows["warehouse"]
    readable = landed.column("transaction_id").drop_null()
    repeated = len(readable) - len(readable.unique())
    assert repeated > 100
    assert 0 <= repeated - rows["duplicates"] < 20, "a duplicate of which one was refused is none"
    assert rows["rejected"] > 0


@pytest.mark.parametrize(
    ("contract", "request_", "message"),
    [
        ("bank_marketing", SampleRequest(100), "has no simulator"),
        ("wallet", SampleRequest(100, 21, inject=("amounts@30",)), "after the last day"),
        ("wallet", SampleRequest(100, 21, inject=("gravity@3",)), "gravity@3"),
        ("wallet", SampleRequest(100, 21, dirt=("mud",)), "'mud' is not one of"),
    ],
)
def test_what_can_not_be_simulated_is_refused(
    tmp_path: Path, contract: str, request_: SampleRequest, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulated_sample(contract, request_, tmp_path)
    assert list(tmp_path.iterdir()) == []
