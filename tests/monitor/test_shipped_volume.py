"""The shipped contracts watch how much comes, and are silent on the data that ships."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Literal

import pytest

from caudal.contract import Contract, load_contract
from caudal.environment import load_environment
from monitor.inputs import Arrivals, volume_and_times
from pipeline.replay.sample import deliveries, find_sample
from pipeline.replay.simulated import SampleRequest, simulated_sample
from tests.world import World, day

Period = Literal["month", "week", "day"]
Judge = Callable[[Contract, list[int]], list[tuple[int, float]]]


@pytest.fixture
def unusual(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """What the monitor calls too little or too much, beside what it takes for usual; of one delivery a day."""

    def judge(contract: Contract, counts: list[int]) -> list[tuple[int, float]]:
        root = tmp_path_factory.mktemp("volume") / "root"
        world = World(contract, load_environment(repository / "environments" / "local.yaml", root=root))
        days = [day("2020-01-01") + timedelta(days=number) for number in range(len(counts))]
        world.measured("inputs", "rows_arrived", counts, days)
        with world.warehouse:
            judged = [
                next(volume_and_times(world.context(as_of), Arrivals(count, 0, as_of, as_of)))
                for as_of, count in zip(days, counts, strict=True)
            ]
        return [(one.rows, one.evidence["usual"]) for one in judged if one.kind == "volume"]

    return judge


@pytest.fixture(scope="module")
def wallet_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = simulated_sample("wallet", SampleRequest(50_000), tmp_path_factory.mktemp("wallet"))
    return find_sample(folder, "wallet", folder)


@pytest.mark.parametrize("every", ["month", "week", "day"])
def test_the_simulated_wallet_brings_nothing_unusual(
    repository: Path, wallet_files: list[Path], every: Period, unusual: Judge
) -> None:
    contract = load_contract(repository / "contracts" / "wallet.yaml")
    counts = [one.rows.num_rows for one in deliveries(contract, wallet_files, every)]
    assert unusual(contract, counts) == []
    # A delivery that is lost, and one that is ten times what it should be; beside the eight before that had rows.
    usual = median(counts[-9:-1])
    too_many = round(10 * usual)
    assert unusual(contract, [*counts[:-1], 0, too_many]) == [(0, usual), (too_many, usual)]
    assert contract.monitor.volume.at_least
    assert contract.monitor.volume.at_most


def test_the_banks_campaigns_bring_nothing_unusual_though_they_pause(repository: Path, unusual: Judge) -> None:
    contract = load_contract(repository / "contracts" / "bank_marketing.yaml")
    counts = [one.rows.num_rows for one in deliveries(contract, find_sample(repository, contract.name), "month")]
    assert 0 in counts
    assert unusual(contract, counts) == []
    assert unusual(contract, [*counts, 10 * counts[-2]]) == [(10 * counts[-2], median(counts[-8:]))]
    assert contract.monitor.volume.at_most
