"""A challenger's trial: paired losses in the warehouse, the verdict, and what follows in the ledger."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caudal.contract.monitoring import Trial
from caudal.promotions import Promotion, Promotions
from caudal.tables import shadow_table
from monitor.step import outcomes
from monitor.paired import Paired
from monitor.trial import judge
from tests.world import World, day, payments

FEBRUARY, MARCH, APRIL = day("2026-02-01"), day("2026-03-01"), day("2026-04-01")


def losses(champion: np.ndarray, challenger: np.ndarray) -> Paired:
    return Paired(
        len(champion), champion.sum(), challenger.sum(), (champion**2).sum(), (challenger**2).sum(),
        (champion * challenger).sum(),
    )  # fmt: skip


def drawn(advantage: float, rows: int = 4000) -> Paired:
    generator = np.random.default_rng(4)
    champion = generator.beta(1, 5, rows)
    noise = generator.normal(0, 0.05, rows)
    return losses(champion, champion - advantage + noise - noise.mean())


def test_the_advantage_of_sums_is_that_of_rows() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random(500), generator.random(500)
    sums = losses(a, b).advantage(0.02)
    values = 1.02 * a - b
    assert sums.mean == pytest.approx(values.mean())
    assert sums.variance == pytest.approx(values.var())


@pytest.mark.parametrize(
    ("advantage", "too_long", "verdict", "reason"),
    [
        (0.02, False, "promote", "proven to be better than the champion"),
        (0.0, False, "go on", "4000 rows decide nothing yet"),
        (0.0, True, "drop", "not proven to be good enough after 4000 rows"),
        (-0.02, False, "drop", "proven to be worse than the champion"),
    ],
)
def test_a_verdict_needs_a_proof(advantage: float, too_long: bool, verdict: str, reason: str) -> None:
    outcome = judge(drawn(advantage), None, Trial(margin=0), too_long)
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


def test_within_the_margin_a_challenger_that_is_no_worse_is_promoted() -> None:
    outcome = judge(drawn(0.0, rows=40_000), None, Trial(margin=0.02), False)
    assert outcome.verdict == "promote"
    assert outcome.reason == "proven to lose at most 1.02 times what the champion loses"


def test_nothing_is_decided_on_fewer_rows_than_the_minimum() -> None:
    assert judge(drawn(0.5, rows=499), None, Trial(minimum_rows=500), False).verdict == "go on"
    assert judge(drawn(0.5, rows=500), None, Trial(minimum_rows=500), False).verdict == "promote"


@pytest.fixture
def trying(world: World) -> tuple[World, Promotion, Promotion]:
    """A champion since February and a challenger since March."""
    rows = world.arrive(payments(1000, "2026-01-01"), FEBRUARY)
    champion = world.promote(rows, FEBRUARY)
    challenger = world.promote(rows, MARCH, role="challenger")
    return world, champion, challenger


def score_both(
    world: World, champion: Promotion, challenger: Promotion, *, quality: float, as_of: datetime = APRIL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """1,500 rows of March; the champion's scores are noise, the challenger's the better the higher `quality`."""
    columns = payments(1500, "2026-03-01", first_key=50_000, seed=8, days=31)
    world.arrive(columns, as_of)
    labels = np.array([label == "yes" for label in columns["disputed"]])
    generator = np.random.default_rng(6)
    plain = np.clip(labels.mean() + generator.normal(0, 0.1, 1500), 0, 1)
    other = np.clip(plain + quality * (labels - plain) + generator.normal(0, 0.02, 1500), 0, 1)
    keys, times = columns["payment"], columns["paid_at"]
    world.predicted(champion, keys, times, plain, as_of)
    world.predicted(challenger, keys, times, other, as_of, table=shadow_table(world.contract))
    due = np.asarray(pa.compute.less_equal(times, pa.scalar(as_of - timedelta(days=7))))
    return labels[due], plain[due], other[due]


def ledger(world: World) -> Promotions:
    return Promotions(world.storage, world.environment.ledger(world.contract.name, "promotions"))


def test_losses_are_brier_scores_of_due_rows_that_both_scored(
    trying: tuple[World, Promotion, Promotion],
) -> None:
    world, champion, challenger = trying
    labels, plain, other = score_both(world, champion, challenger, quality=0.0)
    found = outcomes(world.context(APRIL))["trial"]["paired"]
    assert found["rows"] == len(labels)
    assert found["champion_loss"] == pytest.approx(np.mean((plain - labels) ** 2), abs=1e-8)
    assert found["challenger_loss"] == pytest.approx(np.mean((other - labels) ** 2), abs=1e-8)
    measured = world.rows("SELECT measure FROM monitoring.measurements WHERE measure = 'trial_difference'")
    assert len(measured) == 1


def test_a_challenger_that_proves_better_becomes_champion_once(
    trying: tuple[World, Promotion, Promotion],
) -> None:
    world, champion, challenger = trying
    score_both(world, champion, challenger, quality=0.3)
    first = outcomes(world.context(APRIL))
    assert outcomes(world.context(APRIL))["trial"] == first["trial"]
    head = ledger(world).head()
    assert head is not None
    assert (head.version, head.role, head.as_of) == (challenger.version, "champion", APRIL)
    assert "proven to be better" in head.reason
    assert head.evidence["champion"] == champion.version
    assert head.evidence["paired"]["rows"] == first["trial"]["paired"]["rows"]
    assert len(ledger(world).history()) == 3
    assert ledger(world).challenger() is None


def test_a_challenger_that_proves_worse_is_dropped_and_the_champion_stays(
    trying: tuple[World, Promotion, Promotion],
) -> None:
    world, champion, challenger = trying
    score_both(world, champion, challenger, quality=-0.3)
    assert outcomes(world.context(APRIL))["trial"]["verdict"] == "drop"
    head = ledger(world).head()
    assert head is not None
    assert head.version == champion.version
    assert ledger(world).challenger() is None
    # The champion's own record is not cut short by having been confirmed.
    later = outcomes(world.context(day("2026-04-08")))
    assert later["trial"] is None
    assert later["quality"]["rows"] > 100


def test_a_trial_without_rows_ends_when_its_time_is_up(trying: tuple[World, Promotion, Promotion]) -> None:
    world, champion, _ = trying
    assert outcomes(world.context(day("2026-05-29")))["trial"]["verdict"] == "go on"
    assert outcomes(world.context(day("2026-05-30")))["trial"]["verdict"] == "drop"
    head = ledger(world).head()
    assert head is not None
    assert head.version == champion.version


def test_no_training_starts_while_a_challenger_is_on_trial(trying: tuple[World, Promotion, Promotion]) -> None:
    world, champion, challenger = trying
    score_both(world, champion, challenger, quality=0.0)
    drift = {"alarms": [{"kind": "drift"}]}
    held = outcomes(world.context(APRIL, inputs=drift))
    assert (held["retrain"], held["withheld"].split(": ")[1]) == (False, "a challenger is on trial")


@pytest.mark.parametrize("kind", ["boolean", "regression"])
def test_other_labels_have_their_losses(small_contract: Any, local_environment: Any, kind: str) -> None:
    if kind == "boolean":
        contract = small_contract({"columns.disputed": {"type": "boolean"}, "label.positive": "true"})
        labels: list[Any] = [i % 3 == 0 for i in range(300)]
        expected = np.mean([(0.25 - y) ** 2 for y in labels])
    else:
        contract = small_contract(
            {"columns.disputed": {"type": "number"}, "label.positive": None, "gate.metric": "rmse",
             "monitor.quality.metric": "rmse"},
            task="regression",
        )  # fmt: skip
        labels = [float(i % 7) for i in range(300)]
        expected = np.mean([(0.25 - y) ** 2 for y in labels])
    world = World(contract, local_environment)
    columns = payments(300, "2026-03-01", disputed=labels)
    rows = world.arrive(columns, MARCH)
    champion = world.promote(rows, FEBRUARY, threshold=0.5 if kind == "boolean" else None)
    challenger = world.promote(rows, day("2026-02-02"), role="challenger")
    world.predicted(champion, columns["payment"], columns["paid_at"], [0.25] * 300, MARCH)
    world.predicted(
        challenger, columns["payment"], columns["paid_at"], [0.5] * 300, MARCH, table=shadow_table(contract)
    )
    found = outcomes(world.context(day("2026-05-01")))["trial"]["paired"]
    assert found["rows"] == 300
    assert found["champion_loss"] == pytest.approx(expected)
