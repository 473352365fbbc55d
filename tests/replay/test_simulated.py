"""A replay can make up its sample, with a change injected on a known day."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from caudal.errors import UsageError
from pipeline.replay.simulated import SampleRequest, simulated_sample


def test_a_simulated_sample_is_made_once_for_a_request(tmp_path: Path) -> None:
    request = SampleRequest(rows=2000, days=21)
    folder = simulated_sample("wallet", request, tmp_path)
    files = sorted(folder.glob("*.parquet"))
    assert len(files) == 3
    made = [file.stat().st_mtime_ns for file in files]
    assert simulated_sample("wallet", request, tmp_path) == folder
    assert [file.stat().st_mtime_ns for file in files] == made
    assert simulated_sample("wallet", SampleRequest(rows=2000, days=21, seed=1), tmp_path) != folder


def test_an_injection_changes_what_comes_after_its_day_and_nothing_before(tmp_path: Path) -> None:
    plain = simulated_sample("wallet", SampleRequest(2000, 21), tmp_path)
    changed = simulated_sample("wallet", SampleRequest(2000, 21, inject=("amounts@14",)), tmp_path)
    pairs = zip(sorted(plain.glob("*")), sorted(changed.glob("*")), strict=True)
    assert [pq.read_table(one).equals(pq.read_table(other)) for one, other in pairs] == [True, True, False]


@pytest.mark.parametrize(
    ("contract", "request_", "message"),
    [
        ("bank_marketing", SampleRequest(100), "has no simulator"),
        ("wallet", SampleRequest(100, 21, inject=("amounts@30",)), "after the last day"),
        ("wallet", SampleRequest(100, 21, inject=("gravity@3",)), "gravity@3"),
    ],
)
def test_what_can_not_be_simulated_is_refused(
    tmp_path: Path, contract: str, request_: SampleRequest, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        simulated_sample(contract, request_, tmp_path)
    assert list(tmp_path.iterdir()) == []
