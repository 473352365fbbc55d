"""The cost estimate: by hand for small cases, limits, and prices that say where they come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from caudal.errors import CaudalError
from infra.cost.cron import starts_a_month
from infra.cost.estimate import Estimate, Item, estimate, machine
from infra.cost.prices import InvalidPrices, Prices, UnknownPrice, load_prices
from infra.cost.report import as_markdown
from infra.environments import Deployment
from tests.infra.support import ENVIRONMENTS, ROOT, Stacks


@pytest.fixture(scope="module")
def prices() -> Prices:
    return load_prices()


@pytest.fixture(scope="module")
def estimates(
    deployments: dict[str, Deployment], environments: dict[str, Stacks], prices: Prices
) -> dict[str, Estimate]:
    return {name: estimate(name, deployments[name].cloud, environments[name], prices) for name in ENVIRONMENTS}


@pytest.mark.parametrize(
    ("expression", "a_year"),
    [
        ("0 5 * * *", 365),
        ("0 5 * * 1", 52),
        ("*/15 * * * *", 365 * 96),
        ("0 6,18 * * *", 730),
        ("30 4 1 * *", 12),
        ("0 0 1 1-6 *", 6),
        ("0 9 * * 1-5", 261),
        ("0 0 13 * 5", 12 + 52 - 3),  # 2026 has three Fridays that are a thirteenth
        ("0 0 * * 0,7", 52),
    ],
)
def test_a_cron_expression_is_counted_over_the_year(expression: str, a_year: int) -> None:
    assert starts_a_month(expression) == pytest.approx(a_year / 12)


@pytest.mark.parametrize("expression", ["* * * *", "0 25 * * *", "x 5 * * *"])
def test_what_is_no_cron_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"cron|outside|invalid"):
        starts_a_month(expression)


def test_machine_types_tell_their_size() -> None:
    assert machine("n2-standard-4") == ("n2", 4, 16)
    assert machine("n2-highmem-2") == ("n2", 2, 16)
    with pytest.raises(UnknownPrice, match="does not tell its size"):
        machine("custom-thing")


def item(found: Estimate, start: str) -> Item:
    (one,) = [one for one in found.items if one.what.startswith(start)]
    return one


def test_the_smallest_database_costs_its_hours_disk_and_backups(
    estimates: dict[str, Estimate], prices: Prices
) -> None:
    by_hand = 730 * prices["sql.db-f1-micro"].usd + 10 * prices["sql.disk"].usd + 10 * prices["sql.backup"].usd
    assert item(estimates["dev"], "Cloud SQL").idle == pytest.approx(by_hand)


def test_a_database_with_a_standby_costs_its_processor_memory_and_disk_twice(
    estimates: dict[str, Estimate], prices: Prices
) -> None:
    hour = prices["sql.vcpu"].usd + 3.75 * prices["sql.memory"].usd
    by_hand = 2 * (730 * hour + 20 * prices["sql.disk"].usd) + 20 * prices["sql.backup"].usd
    assert item(estimates["prod"], "Cloud SQL").idle == pytest.approx(by_hand)


def test_a_service_that_scales_to_zero_costs_nothing_idle(estimates: dict[str, Estimate]) -> None:
    assert item(estimates["dev"], "Cloud Run caudal-serving-wallet").idle == 0
    assert item(estimates["prod"], "Cloud Run caudal-serving-wallet").idle > 0


def test_every_scheduled_run_is_counted_for_every_contract(
    estimates: dict[str, Estimate], deployments: dict[str, Deployment]
) -> None:
    weekly = len(deployments["dev"].contracts) * 52 / 12
    assert f"{weekly:.1f} runs" in item(estimates["dev"], "Workflows").how


def test_a_paused_schedule_runs_nothing(
    deployments: dict[str, Deployment], environments: dict[str, Stacks], prices: Prices
) -> None:
    stacks: dict[str, Any] = json.loads(json.dumps(environments["dev"]))
    for schedule in stacks["orchestration"]["resource"]["google_cloud_scheduler_job"].values():
        schedule["paused"] = True
    paused = estimate("dev", deployments["dev"].cloud, stacks, prices)
    assert item(paused, "Dataflow").how.startswith("0.0 runs")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_is_within_its_limits(environment: str, estimates: dict[str, Estimate]) -> None:
    found = estimates[environment]
    assert 0 < found.idle <= found.running
    assert found.exceeded == []


def test_dev_idles_below_twenty_dollars(estimates: dict[str, Estimate]) -> None:
    assert estimates["dev"].idle < 20


def test_a_limit_that_is_exceeded_is_named_with_both_figures(estimates: dict[str, Estimate]) -> None:
    tight = replace(estimates["dev"], idle_limit=1.0, running_limit=2.0)
    assert len(tight.exceeded) == 2
    assert "above the limit of 1.00" in tight.exceeded[0]
    assert "Above the limit" in as_markdown(tight)


def test_every_price_has_a_source_with_its_day_or_says_why_not(prices: Prices) -> None:
    for price in prices.prices.values():
        assert (price.source is None) != (price.unsourced == "")


def test_no_price_is_there_that_nothing_uses(estimates: dict[str, Estimate], prices: Prices) -> None:
    used = {name for found in estimates.values() for one in found.items for name in one.prices}
    assert used == set(prices.prices)


def test_prices_without_a_source_are_told(estimates: dict[str, Estimate], prices: Prices) -> None:
    found = estimates["dev"]
    assert "sql.db-f1-micro" in found.unsourced
    assert "sql.db-f1-micro" in as_markdown(found)


@pytest.mark.parametrize("more", ["", "    unsourced: why\n    source: {page: 'https://x', read: 2026-01-01}\n"])
def test_a_price_with_no_source_and_no_excuse_or_with_both_is_refused(tmp_path: Path, more: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(f"prices:\n  x:\n    usd: 1.0\n    per: hour\n    region: r\n{more}")
    with pytest.raises(InvalidPrices, match=r"prices.yaml:\d+"):
        load_prices(file)


def test_a_machine_without_a_price_is_named_with_the_mend(
    deployments: dict[str, Deployment], environments: dict[str, Stacks], prices: Prices
) -> None:
    fewer = Prices(prices={name: p for name, p in prices.prices.items() if name != "vertex.n2.vcpu"})
    with pytest.raises(CaudalError, match="no price of 'vertex"):
        estimate("dev", deployments["dev"].cloud, environments["dev"], fewer)


def test_the_command_prints_the_estimate_and_what_is_unsourced(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.cli.cost import command

    monkeypatch.chdir(ROOT)
    told = CliRunner().invoke(command, ["--env", "dev"])
    assert told.exit_code == 0, told.output
    assert "unsourced: sql.db-f1-micro" in told.output
    machine_readable = CliRunner().invoke(command, ["--env", "dev", "--json"])
    assert json.loads(machine_readable.output)["idle"] > 0
