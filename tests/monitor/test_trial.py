"""A challenger's trial: losses in the warehouse, paired and by arm, the verdict, and what the ledger says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caudal.contract.monitoring import Trial
from caudal.environment import VertexRegistry
from caudal.promotions import Promotion, Promotions
from caudal.tables import shadow_table
from monitor.live_arms import LiveArm, LiveArms
from monitor.paired import Paired
from monitor.sequential import Arm, Sums, confidence_sequence
from monitor.step import outcomes
from monitor.trial import judge
from tests.monitor.test_sequential import pseudo_outcomes
from tests.world import World, day, payments

FEBRUARY, MARCH, APRIL = day("2026-02-01"), day("2026-03-01"), day("2026-04-01")


def losses(champion: np.ndarray, challenger: np.ndarray, positives: int | None = None) -> Paired:
    return Paired(
        len(champion), champion.sum(), challenger.sum(), (champion**2).sum(), (challenger**2).sum(),
        (champion * challenger).sum(), positives=positives, largest=1.0,
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


@pytest.mark.parametrize("positives", [49, 951])
def test_nothing_is_decided_on_fewer_rows_of_either_class_than_the_minimum(positives: int) -> None:
    paired = replace(drawn(0.5, rows=1000), positives=positives)
    waiting = judge(paired, None, Trial(), False)
    assert (waiting.verdict, waiting.reason) == (
        "go on",
        "1000 rows with 49 of the rarer label decide nothing yet",
    )
    assert judge(paired, None, Trial(minimum_of_each_class=49), False).verdict == "promote"
    given_up = judge(paired, None, Trial(), True)
    assert given_up.reason == "not proven to be good enough after 1000 rows with 49 of the rarer label"


def test_each_live_arm_needs_the_fewest_rows_of_either_class() -> None:
    live = live_losses(BETTER, 4000)
    few = replace(live, challenger=replace(live.challenger, positives=49))
    assert judge(drawn(EVEN), live, Trial(margin=0), False).verdict == "promote"
    assert judge(drawn(EVEN), few, Trial(margin=0), False).verdict == "go on"
    assert judge(drawn(BETTER), few, Trial(margin=0), True).decided_by == "paired"


def test_a_challenger_that_is_worse_on_positives_alone_is_not_promoted_before_they_come() -> None:
    """The contract's own use: of 500 rows one is positive, and who scores lower is right about all others."""
    generator = np.random.default_rng(31)
    trial, promoted = Trial(margin=0), 0
    for _ in range(100):
        labels = generator.random(20_000) < 0.002
        noise = generator.normal(0, 0.1, 20_000)
        champion = np.where(labels, 0.2, 4e-4) * (1 + noise)
        challenger = np.where(labels, 0.64 * (1 - noise), 0.0)
        for n in range(500, len(labels) + 1, 500):
            paired = losses(champion[:n], challenger[:n], int(labels[:n].sum()))
            verdict = judge(paired, None, trial, False).verdict
            if verdict != "go on":
                promoted += verdict == "promote"
                break
    assert promoted / 100 < 0.05


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


@pytest.mark.parametrize(("quality", "now"), [(0.3, "the challenger"), (-0.3, "the champion")])
def test_vertex_ais_registry_follows_the_verdict_where_the_environment_has_one(
    trying: tuple[World, Promotion, Promotion], monkeypatch: pytest.MonkeyPatch, quality: float, now: str
) -> None:
    world, champion, challenger = trying
    score_both(world, champion, challenger, quality=quality)
    settings = VertexRegistry(project="p", region="europe-west1", image="serving")
    world.environment = world.environment.model_copy(update={"model_registry": settings})
    followed = []

    class Followed:
        def follow(self, contract: str, promotions: Promotions) -> None:
            followed.append((contract, promotions.head().version, promotions.challenger()))

    monkeypatch.setattr("caudal.vertex_models.VertexModels.of", lambda _: Followed())
    outcomes(world.context(APRIL))
    chosen = champion if now == "the champion" else challenger
    assert followed == [(world.contract.name, chosen.version, None)]


def test_a_trial_without_rows_ends_when_its_time_is_up(trying: tuple[World, Promotion, Promotion]) -> None:
    world, champion, _ = trying
    # Begun on March 1; 90 days from when a label of a row of the trial can first be due, 7 days later.
    assert outcomes(world.context(day("2026-06-05")))["trial"]["verdict"] == "go on"
    assert outcomes(world.context(day("2026-06-06")))["trial"]["verdict"] == "drop"
    head = ledger(world).head()
    assert head is not None
    assert head.version == champion.version


def test_a_trial_whose_labels_are_due_late_is_not_over_before_the_first_of_them(
    small_contract: Any, local_environment: Any
) -> None:
    world = World(small_contract({"label.due_after": "120d"}), local_environment)
    rows = world.arrive(payments(1000, "2025-10-01"), FEBRUARY)
    champion = world.promote(rows, FEBRUARY)
    challenger = world.promote(rows, MARCH, role="challenger")
    judged_from = day("2026-08-30")
    score_both(world, champion, challenger, quality=0.3)
    assert outcomes(world.context(day("2026-06-28")))["trial"]["verdict"] == "go on"
    assert outcomes(world.context(judged_from))["trial"]["verdict"] == "promote"


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


ERRORS = ["thousandths", "ones", "hundreds of millions"]


@pytest.fixture(params=[1e-3, 1.0, 1e8], ids=ERRORS)
def measured_in(request: Any, small_contract: Any, local_environment: Any) -> tuple[World, float]:
    """A regression whose label is in some unit."""
    contract = small_contract(
        {"columns.disputed": {"type": "number"}, "label.positive": None, "gate.metric": "rmse",
         "monitor.quality.metric": "rmse"},
        task="regression",
    )  # fmt: skip
    return World(contract, local_environment), request.param


@pytest.mark.parametrize(("quality", "verdict"), [(0.5, "promote"), (1.0, "go on"), (2.0, "drop")])
def test_a_regressions_trial_ends_alike_in_every_unit_of_its_label(
    measured_in: tuple[World, float], quality: float, verdict: str
) -> None:
    world, unit = measured_in
    count = 1500
    generator = np.random.default_rng(41)
    truth = generator.normal(0, 3, count) * unit
    columns = payments(count, "2026-03-01", disputed=truth)
    rows = world.arrive(columns, MARCH)
    champion = world.promote(rows, FEBRUARY, metrics={"rmse": 1.1 * unit}, threshold=None)
    challenger = world.promote(rows, day("2026-02-02"), role="challenger", threshold=None)
    a, b = (truth + generator.normal(0, size, count) * unit for size in (1.0, quality))
    half = count // 2
    keys, times = columns["payment"], columns["paid_at"]
    # Half is scored by batches, the other half answered by one of the two, which chance chose.
    world.predicted(champion, keys[:half], times[:half], a[:half], MARCH)
    world.predicted(challenger, keys[:half], times[:half], b[:half], MARCH, table=shadow_table(world.contract))
    answered, second = np.arange(count) >= half, generator.random(count) < 0.5
    for promotion, arm, scores, taken in (
        (champion, "champion", a, answered & ~second), (challenger, "challenger", b, answered & second)
    ):  # fmt: skip
        chosen = np.flatnonzero(taken)
        world.served(
            promotion, np.array(keys)[chosen], times.take(chosen), scores[chosen], MARCH, arm=arm,
            challenger=challenger, share=0.5,
        )  # fmt: skip
    world.contract = world.contract.model_copy(
        update={"monitor": world.contract.monitor.model_copy(
            update={"trial": Trial(margin=0, minimum_rows=300)})}
    )  # fmt: skip

    found = outcomes(world.context(day("2026-05-01")))["trial"]

    assert (found["verdict"], found["decided_by"]) == (verdict, "live")
    first, other = ((x[:half] - truth[:half]) ** 2 for x in (a, b))
    assert found["paired"]["champion_loss"] == pytest.approx(first.mean(), rel=1e-6)
    assert found["paired"]["challenger_loss"] == pytest.approx(other.mean(), rel=1e-6)
    values = first - other
    bounds = confidence_sequence(Sums(half, values.sum(), (values**2).sum()), 0.975, 300)
    assert found["paired"]["difference"]["low"] == pytest.approx(bounds.low, rel=1e-5)
    for arm, scores, taken in (("champion", a, answered & ~second), ("challenger", b, answered & second)):
        expected = np.mean((scores[taken] - truth[taken]) ** 2)
        assert found["live"][arm]["loss"] == pytest.approx(expected, rel=1e-6)


def test_one_absurd_error_stops_neither_the_trial_nor_the_step(
    measured_in: tuple[World, float],
) -> None:
    world, unit = measured_in
    columns = payments(600, "2026-03-01", disputed=np.zeros(600))
    rows = world.arrive(columns, MARCH)
    champion = world.promote(rows, FEBRUARY, metrics={"rmse": unit}, threshold=None)
    challenger = world.promote(rows, day("2026-02-02"), role="challenger", threshold=None)
    plain = np.random.default_rng(42).normal(0, unit, 600)
    absurd = np.where(np.arange(600) == 7, 1e30 * unit, plain)
    world.predicted(champion, columns["payment"], columns["paid_at"], plain, MARCH)
    world.predicted(
        challenger, columns["payment"], columns["paid_at"], absurd, MARCH, table=shadow_table(world.contract)
    )
    assert outcomes(world.context(day("2026-05-01")))["trial"]["verdict"] == "go on"


# By what came of live answers


def answers(
    world: World,
    champion: Promotion,
    challenger: Promotion,
    *,
    quality: float,
    share: float = 0.5,
    rows: int = 3000,
    as_of: datetime = APRIL,
) -> dict[str, np.ndarray]:
    """Rows of March, each answered by the arm that chance chose; the higher `quality`, the better the challenger.

    Returns:
        What an oracle needs of the rows whose labels are due.
    """
    columns = payments(rows, "2026-03-01", first_key=80_000, seed=9, days=31)
    world.arrive(columns, as_of)
    labels = np.array([label == "yes" for label in columns["disputed"]])
    generator = np.random.default_rng(16)
    second = generator.random(rows) < share
    plain = np.clip(labels.mean() + generator.normal(0, 0.1, rows), 0, 1)
    other = np.clip(plain + quality * (labels - plain) + generator.normal(0, 0.02, rows), 0, 1)
    scores = np.where(second, other, plain)
    keys, times = np.array(columns["payment"]), columns["paid_at"]
    for promotion, arm, taken in ((champion, "champion", ~second), (challenger, "challenger", second)):
        chosen = times.filter(pa.array(taken))
        world.served(
            promotion, keys[taken], chosen, scores[taken], as_of, arm=arm, challenger=challenger, share=share
        )
    due = np.asarray(pa.compute.less_equal(times, pa.scalar(as_of - timedelta(days=7))))
    late = np.asarray(pa.compute.greater(times, pa.scalar(MARCH)))
    counted = due & late
    return {"labels": labels[counted], "scores": scores[counted], "second": second[counted]}


def test_live_losses_are_those_of_each_arms_due_keys(trying: tuple[World, Promotion, Promotion]) -> None:
    world, champion, challenger = trying
    known = answers(world, champion, challenger, quality=0.0, share=0.25)
    found = outcomes(world.context(APRIL))
    live = found["trial"]["live"]
    for arm, taken in (("champion", ~known["second"]), ("challenger", known["second"])):
        labels, scores = known["labels"][taken], known["scores"][taken]
        assert live[arm]["rows"] == taken.sum()
        assert live[arm]["answered"] > live[arm]["rows"]
        assert live[arm]["loss"] == pytest.approx(np.mean((scores - labels) ** 2), abs=1e-8)
        assert live[arm]["positive_rate"] == pytest.approx(labels.mean())
        assert found["measures"][f"trial_live_{arm}_rows"] == taken.sum()
        assert found["measures"][f"trial_live_{arm}_positive_rate"] == pytest.approx(labels.mean(), abs=1e-6)
    losses_ = (known["scores"] - known["labels"]) ** 2
    expected = losses_[~known["second"]].mean() - losses_[known["second"]].mean()
    assert live["difference"]["mean"] == pytest.approx(expected, abs=1e-8)
    shares = np.full(len(losses_), 0.25)
    values = pseudo_outcomes(losses_, known["second"], shares, 1.0)
    # A row that was answered by an arm with a chance of p weighs 1 / p: so far it could have been from the means.
    m1, m2 = (losses_[taken].mean() for taken in (~known["second"], known["second"]))
    reach = (m1 - m2 - (1 - m2) / 0.25, m1 - m2 + m2 / 0.25)
    bounds = confidence_sequence(Sums(len(values), values.sum(), (values**2).sum(), *reach), 0.975, 1000)
    assert live["difference"]["low"] == pytest.approx(bounds.low, rel=1e-6)
    assert live["difference"]["high"] == pytest.approx(bounds.high, rel=1e-6)
    assert found["trial"]["decided_by"] == "live"


@pytest.mark.parametrize(("quality", "verdict"), [(0.4, "promote"), (-0.4, "drop")])
def test_live_answers_promote_the_better_and_drop_the_worse_once(
    trying: tuple[World, Promotion, Promotion], quality: float, verdict: str
) -> None:
    world, champion, challenger = trying
    answers(world, champion, challenger, quality=quality)
    first = outcomes(world.context(APRIL))
    assert (first["trial"]["verdict"], first["trial"]["decided_by"]) == (verdict, "live")
    assert outcomes(world.context(APRIL)) == first
    head = ledger(world).head()
    assert head is not None
    assert head.version == (challenger if verdict == "promote" else champion).version
    assert "what came of live answers" in head.reason
    assert head.evidence["live"] == first["trial"]["live"]
    assert head.evidence["paired"]["rows"] == 0
    assert len(ledger(world).history()) == 3


def test_what_a_key_was_answered_first_counts_and_nothing_else(
    trying: tuple[World, Promotion, Promotion],
) -> None:
    world, champion, challenger = trying
    columns = payments(40, "2026-03-02", first_key=90_000, disputed=["yes"] * 40)
    world.arrive(columns, APRIL)
    keys, times = columns["payment"], columns["paid_at"]
    later = pa.compute.add(times, pa.scalar(timedelta(days=1)))

    def serve(promotion: Promotion, arm: str, score: float, chosen: slice, **changes: Any) -> None:
        given = {"times": times[chosen], "as_of": APRIL, "challenger": challenger, "share": 0.5, **changes}
        count = len(keys[chosen])
        world.served(
            promotion, keys[chosen], given["times"], [score] * count, given["as_of"], arm=arm,
            challenger=given["challenger"], share=given["share"],
        )  # fmt: skip

    serve(champion, "champion", 0.5, slice(0, 10))
    serve(challenger, "challenger", 0.7, slice(10, 20))
    # The share grew, so some keys moved to the other arm; they stay what they were first.
    serve(challenger, "challenger", 0.0, slice(0, 5), times=later[0:5], share=0.9)
    # None of these is a row of either arm:
    serve(challenger, "shadow", 0.0, slice(0, 10))
    serve(champion, "champion", 0.0, slice(20, 25), share=0.0)
    serve(challenger, "challenger", 0.0, slice(20, 25), share=1.0)
    serve(champion, "champion", 0.0, slice(25, 30), challenger=champion)
    serve(champion, "champion", 0.0, slice(30, 33), times=pa.array([FEBRUARY] * 3))
    serve(champion, "champion", 0.0, slice(33, 36), as_of=MARCH)
    serve(champion, "champion", 0.0, slice(36, 40), as_of=day("2026-04-02"))

    live = outcomes(world.context(APRIL))["trial"]["live"]

    assert (live["champion"]["rows"], live["champion"]["loss"]) == (10, pytest.approx(0.25))
    assert (live["challenger"]["rows"], live["challenger"]["loss"]) == (10, pytest.approx(0.09))
    assert (live["champion"]["answered"], live["challenger"]["answered"]) == (10, 10)


def test_a_label_counts_when_it_is_due_by_what_the_warehouse_says_too(
    trying: tuple[World, Promotion, Promotion],
) -> None:
    world, _, challenger = trying
    columns = payments(20, "2026-03-20", first_key=90_000, days=10)
    world.arrive(columns, APRIL)
    # A client that says another event time does not make a label due.
    told = pa.array([day("2026-03-02")] * 20)
    world.served(
        challenger, columns["payment"], told, [0.5] * 20, APRIL, arm="challenger", challenger=challenger, share=0.5
    )
    due = [moment for moment in columns["paid_at"].to_pylist() if moment <= APRIL - timedelta(days=7)]
    assert 0 < len(due) < 20
    live = outcomes(world.context(APRIL))["trial"]["live"]
    assert (live["challenger"]["rows"], live["challenger"]["answered"]) == (len(due), 20)


def test_shadow_lines_are_pairs_and_a_key_that_was_scored_by_batch_too_counts_once(
    trying: tuple[World, Promotion, Promotion],
) -> None:
    world, champion, challenger = trying
    columns = payments(30, "2026-03-02", first_key=90_000, days=10, disputed=["no"] * 30)
    world.arrive(columns, APRIL)
    keys, times = columns["payment"], columns["paid_at"]
    world.predicted(champion, keys[:20], times[:20], [0.1] * 20, APRIL)
    world.predicted(challenger, keys[:20], times[:20], [0.2] * 20, APRIL, table=shadow_table(world.contract))
    for promotion, arm, score in ((champion, "champion", 0.3), (challenger, "shadow", 0.4)):
        world.served(
            promotion, keys[10:30], times[10:30], [score] * 20, APRIL, arm=arm, challenger=challenger, share=0.0
        )
    # Other requests about the same keys: one in which the shadow failed, and one of which its line alone came.
    earlier = pa.compute.subtract(times, pa.scalar(timedelta(hours=1)))
    world.served(
        champion, keys[20:30], earlier[20:30], [0.9] * 10, APRIL, arm="champion", challenger=challenger, share=0.0
    )
    later = pa.compute.add(times, pa.scalar(timedelta(hours=1)))
    world.served(
        challenger, keys[10:20], later[10:20], [0.9] * 10, APRIL, arm="shadow", challenger=challenger, share=0.0
    )

    found = outcomes(world.context(APRIL))["trial"]

    assert (found["paired"]["rows"], found["paired"]["served_rows"]) == (30, 20)
    assert found["paired"]["champion_loss"] == pytest.approx((10 * 0.01 + 20 * 0.09) / 30)
    assert found["paired"]["challenger_loss"] == pytest.approx((10 * 0.04 + 20 * 0.16) / 30)
    assert (found["live"], found["decided_by"]) == (None, "paired")


def live_losses(advantage: float, rows: int) -> LiveArms:
    """So many due keys in each of two equal arms."""
    generator = np.random.default_rng(3)
    values = generator.beta(1, 5, rows)
    values -= values.mean() - 0.17

    def one(x: np.ndarray) -> LiveArm:
        sums = Arm(rows, 2.0 * rows, 2 * x.sum(), 4.0 * rows, 4 * x.sum(), 4 * (x**2).sum(), 2.0)
        return LiveArm(rows, sums, rows // 10)

    return LiveArms(one(values), one(values - advantage), largest=1.0)


BETTER, EVEN, WORSE = 0.05, 0.0, -0.05


@pytest.mark.parametrize(
    ("by_arms", "by_pairs", "too_long", "verdict", "decided_by"),
    [
        # The live arms decide the promotion, whatever the pairs promise.
        (BETTER, EVEN, False, "promote", "live"),
        (EVEN, BETTER, False, "go on", "live"),
        (EVEN, BETTER, True, "drop", "live"),
        # Proven worse in either: dropped.
        (WORSE, BETTER, False, "drop", "live"),
        (BETTER, WORSE, False, "drop", "paired"),
        (EVEN, WORSE, False, "drop", "paired"),
    ],
)
def test_live_arms_promote_and_either_comparison_drops(
    by_arms: float, by_pairs: float, too_long: bool, verdict: str, decided_by: str
) -> None:
    outcome = judge(drawn(by_pairs), live_losses(by_arms, 4000), Trial(margin=0), too_long)
    assert (outcome.verdict, outcome.decided_by) == (verdict, decided_by)


@pytest.mark.parametrize(
    ("by_pairs", "too_long", "verdict"),
    [(BETTER, False, "go on"), (BETTER, True, "promote"), (EVEN, True, "drop")],
)
def test_with_too_few_answers_to_judge_the_pairs_decide_when_the_time_is_up(
    by_pairs: float, too_long: bool, verdict: str
) -> None:
    outcome = judge(drawn(by_pairs), live_losses(BETTER, 499), Trial(margin=0), too_long)
    assert outcome.verdict == verdict
    if verdict == "promote":
        assert outcome.decided_by == "paired"
        assert "too few answers" in outcome.reason


def test_with_both_comparisons_each_has_half_the_chance_of_error() -> None:
    alone = judge(drawn(EVEN), None, Trial(level=0.95), False)
    both = judge(drawn(EVEN), live_losses(EVEN, 4000), Trial(level=0.95), False)
    stricter = judge(drawn(EVEN), None, Trial(level=0.975), False)
    assert both.by_pairs == stricter.by_pairs
    assert both.by_pairs.difference.high > alone.by_pairs.difference.high


def verdicts(generator: np.random.Generator, noises: tuple[float, float], trial: Trial) -> list[str]:
    """The verdict after each of 20 batches of 400 rows; the less noise a model has, the better it is.

    Batches are scored by both; of the same rows each is answered by the arm that chance chose.
    """
    rows, share, every = 8000, 0.3, 400
    labels = generator.random(rows) < 0.15
    signal = 0.15 + 0.3 * (labels - 0.15) + generator.normal(0, 0.05, rows)
    a, b = ((np.clip(signal + generator.normal(0, noise, rows), 0, 1) - labels) ** 2 for noise in noises)
    second = generator.random(rows) < share
    found = []
    for n in range(every, rows + 1, every):
        x, y = a[:n][~second[:n]], b[:n][second[:n]]
        arms = [
            LiveArm(
                len(v),
                Arm(len(v), len(v) / p, v.sum() / p, len(v) / p**2, v.sum() / p**2, (v**2).sum() / p**2, 1 / p),
            )
            for v, p in ((x, 1 - share), (y, share))
        ]
        found.append(judge(losses(a[:n], b[:n]), LiveArms(*arms, largest=1.0), trial, False).verdict)
        if found[-1] != "go on":
            break
    return found


def test_a_trial_of_equal_models_rarely_ends_however_often_it_is_judged() -> None:
    generator = np.random.default_rng(21)
    trial = Trial(level=0.95, margin=0, minimum_rows=200)
    ended = sum(verdicts(generator, (0.1, 0.1), trial)[-1] != "go on" for _ in range(300))
    assert ended / 300 < 0.05


@pytest.mark.parametrize(
    ("noises", "verdict"), [((0.3, 0.05), "promote"), ((0.05, 0.3), "drop")], ids=["better", "worse"]
)
def test_a_trial_of_unequal_models_ends_as_it_should(noises: tuple[float, float], verdict: str) -> None:
    generator = np.random.default_rng(22)
    trial = Trial(level=0.95, margin=0, minimum_rows=200)
    ended = [verdicts(generator, noises, trial)[-1] for _ in range(100)]
    assert ended.count(verdict) > 90
    assert set(ended) <= {verdict, "go on"}
