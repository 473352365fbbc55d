"""The shipped contracts watch how much comes, and are silent on the data that ships."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Literal

import pytest

from caudal.contract import Contract, load_contract
from pipeline.replay.sample import deliveries, find_sample
from pipeline.replay.simulated import SampleRequest, simulated_sample

Period = Literal["month", "week", "day"]


def unusual(contract: Contract, counts: list[int]) -> list[tuple[int, float]]:
    """Deliveries that the contract would call too small or too large, beside what was usual then."""
    volume = contract.monitor.volume
    found = []
    for number, count in enumerate(counts):
        before = [one for one in counts[:number] if one][-volume.of_last :]
        usual = median(before) if len(before) >= 3 else None
        if usual is not None and not (
            usual * (volume.at_least or 0) <= count <= usual * (volume.at_most or float("inf"))
        ):
            found.append((count, usual))
    return found


@pytest.fixture(scope="module")
def wallet_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = simulated_sample("wallet", SampleRequest(50_000), tmp_path_factory.mktemp("wallet"))
    return find_sample(folder, "wallet", folder)


@pytest.mark.parametrize("every", ["month", "week", "day"])
def test_the_simulated_wallet_brings_nothing_unusual(
    repository: Path, wallet_files: list[Path], every: Period
) -> None:
    contract = load_contract(repository / "contracts" / "wallet.yaml")
    counts = [one.rows.num_rows for one in deliveries(contract, wallet_files, every)]
    assert unusual(contract, counts) == []
    # A delivery that is lost, and one that is five times what it should be.
    assert unusual(contract, [*counts[:-1], 0, 5 * counts[0]]) != []
    assert contract.monitor.volume.at_least
    assert contract.monitor.volume.at_most


def test_the_banks_campaigns_bring_nothing_unusual_though_they_pause(repository: Path) -> None:
    contract = load_contract(repository / "contracts" / "bank_marketing.yaml")
    counts = [one.rows.num_rows for one in deliveries(contract, find_sample(repository, contract.name), "month")]
    assert 0 in counts
    assert unusual(contract, counts) == []
    assert unusual(contract, [*counts, 10 * counts[-2]]) == [(10 * counts[-2], median(counts[-8:]))]
    assert contract.monitor.volume.at_most
