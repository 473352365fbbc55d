"""The score step: which key is scored, by which model, how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import batch_scoring.step as step
from batch_scoring.__main__ import run as run_job
from batch_scoring.step import Shard, backfill, score
from caudal.environment import Environment
from caudal.errors import NotFound, UsageError
from caudal.package import open_package
from caudal.promotions import Promotions
from tests.world import World, day, payments

FEBRUARY, MARCH, APRIL = day("2026-02-01"), day("2026-03-01"), day("2026-04-01")


@pytest.fixture
def world(small_contract: Any, local_environment: Environment) -> World:
    return World(small_contract(), local_environment)


@pytest.fixture
def trained(world: World) -> World:
    """400 payments arrived by February and became a model, which is live for what comes later."""
    world.promote(world.arrive(payments(400, "2026-01-01"), FEBRUARY), FEBRUARY)
    return world


def test_without_a_champion_nothing_is_scored_and_the_result_says_why(world: World) -> None:
    world.arrive(payments(10, "2026-01-01"), FEBRUARY)
    result = score(world.context(FEBRUARY))
    assert (result["rows"], result["model_version"], result["reason"]) == (0, None, "no champion")
    assert world.predictions() == []


def test_new_keys_are_scored_as_the_package_scores_them(trained: World) -> None:
    rows = trained.arrive(payments(50, "2026-02-01", first_key=1000, seed=1), MARCH)
    champion = _champion(trained)
    result = score(trained.context(MARCH))
    package = open_package(trained.storage, champion.package)
    made = trained.predictions()
    assert result.pop("seconds") >= 0
    assert result == {
        "rows": 50,
        "model_version": champion.version,
        "by_version": {champion.version: 50},
        "reason": None,
        "shadow": 0,
    }
    assert [one["key"] for one in made] == rows.column("payment").to_pylist()
    assert [one["score"] for one in made] == pytest.approx(package.score(rows).tolist(), abs=0)
    assert [one["prediction"] for one in made] == ["yes" if one["score"] >= 0.5 else "no" for one in made]
    assert [one["event_time"] for one in made] == rows.column("paid_at").to_pylist()
    assert {one["as_of"] for one in made} == {MARCH}


def test_keys_that_came_before_any_champion_are_left_to_backfill(trained: World) -> None:
    assert score(trained.context(MARCH))["rows"] == 0
    assert backfill(trained.context(MARCH))["rows"] == 400
    assert backfill(trained.context(MARCH, "again"))["rows"] == 0


def test_a_key_is_scored_by_the_champion_that_was_live_when_it_first_arrived(trained: World) -> None:
    first = _champion(trained)
    in_march = trained.arrive(payments(300, "2026-02-01", first_key=1000, seed=1), MARCH)
    second = trained.promote(in_march, MARCH)
    trained.arrive(payments(20, "2026-03-01", first_key=2000, seed=2), APRIL)
    # March's run never scored: April's does it, with the model that March would have used.
    result = score(trained.context(APRIL))
    assert result["by_version"] == {first.version: 300, second.version: 20}
    assert result["model_version"] == second.version
    by_key = {one["key"]: one["model_version"] for one in trained.predictions()}
    assert {by_key[key] for key in range(1000, 1300)} == {first.version}
    assert {by_key[key] for key in range(2000, 2020)} == {second.version}


def test_a_challenger_scores_in_the_shadow_what_arrives_while_it_is_on_trial(trained: World) -> None:
    champion = _champion(trained)
    before = trained.arrive(payments(100, "2026-02-01", first_key=1000), MARCH)
    score(trained.context(MARCH))
    challenger = trained.promote(before, MARCH, role="challenger")
    rows = trained.arrive(payments(60, "2026-03-01", first_key=2000), APRIL)
    result = score(trained.context(APRIL))
    assert (result["by_version"], result["shadow"]) == ({champion.version: 60}, 60)
    shadow = trained.rows("SELECT * FROM predictions.payments_shadow ORDER BY key")
    assert [one["key"] for one in shadow] == rows.column("payment").to_pylist()
    assert {one["model_version"] for one in shadow} == {challenger.version}
    package = open_package(trained.storage, challenger.package)
    assert [one["score"] for one in shadow] == pytest.approx(package.score(rows).tolist(), abs=0)
    assert score(trained.context(APRIL))["shadow"] == 60
    assert len(trained.rows("SELECT key FROM predictions.payments_shadow")) == 60
    assert {one["model_version"] for one in trained.predictions()} == {champion.version}


def test_a_second_challenger_scores_by_itself(trained: World) -> None:
    rows = trained.arrive(payments(100, "2026-02-01", first_key=1000), MARCH)
    trained.promote(rows, day("2026-02-10"), role="challenger")
    assert score(trained.context(MARCH))["shadow"] == 100
    second = trained.promote(rows, day("2026-02-20"), role="challenger")
    assert score(trained.context(MARCH, "again"))["shadow"] == 100
    versions = trained.rows(
        "SELECT model_version, COUNT(*) AS n FROM predictions.payments_shadow GROUP BY model_version"
    )
    assert {row["n"] for row in versions} == {100}
    assert second.version in {row["model_version"] for row in versions}


def test_a_repeated_step_scores_nothing_twice_and_says_the_same(trained: World) -> None:
    trained.arrive(payments(30, "2026-02-01", first_key=1000), MARCH)
    once = score(trained.context(MARCH))
    assert score(trained.context(MARCH)) | {"seconds": 0} == once | {"seconds": 0}
    assert once["rows"] == len(trained.predictions()) == 30


def test_a_step_killed_between_two_loads_ends_as_one_clean_run(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_march = trained.arrive(payments(300, "2026-02-01", first_key=1000, seed=1), MARCH)
    trained.promote(in_march, MARCH)
    trained.arrive(payments(20, "2026-03-01", first_key=2000), APRIL)
    context = trained.context(APRIL)
    load, calls = type(context.warehouse).load, Counter[str]()

    def dies_at_the_second(self: Any, *arguments: Any) -> Any:
        calls["load"] += 1
        if calls["load"] == 2:
            raise KeyboardInterrupt
        return load(self, *arguments)

    monkeypatch.setattr(type(context.warehouse), "load", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        score(context)
    assert len(trained.predictions()) in (20, 300)
    result = score(trained.context(APRIL))
    assert result["rows"] == len(trained.predictions()) == 320
    assert len({one["key"] for one in trained.predictions()}) == 320


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_score_every_key_once_between_them(trained: World, count: int) -> None:
    trained.arrive(payments(101, "2026-02-01", first_key=1000), MARCH)
    made = [score(trained.context(MARCH), Shard(index, count))["rows"] for index in range(count)]
    assert sum(made) == len(trained.predictions()) == len({one["key"] for one in trained.predictions()}) == 101
    assert max(made) - min(made) <= 1


def test_a_task_of_no_job_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no task 3 of 3"):
        Shard(3, 3)


def test_a_backfill_with_another_version_than_the_live_one_is_refused(trained: World) -> None:
    with pytest.raises(UsageError, match="predictions are made by the live model only"):
        backfill(trained.context(MARCH), "another")
    assert trained.predictions() == []
    assert backfill(trained.context(MARCH), _champion(trained).version)["rows"] == 400


def test_backfill_without_a_champion_names_the_mend(world: World) -> None:
    with pytest.raises(NotFound, match="trains and promotes one"):
        backfill(world.context(FEBRUARY))


def test_staged_files_are_gone_after_the_load(trained: World) -> None:
    trained.arrive(payments(30, "2026-02-01", first_key=1000), MARCH)
    score(trained.context(MARCH))
    staging = trained.environment.staging(trained.contract.name, "predictions")
    assert list(trained.storage.objects(staging)) == []


def test_each_task_of_a_job_records_its_part_and_the_last_one_the_result(
    trained: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.arrive(payments(31, "2026-02-01", first_key=1000), MARCH)
    context = trained.context(MARCH)
    config = (tmp_path / "config").as_uri()
    trained.storage.write(f"{config}/contract.yaml", trained.contract.text.encode())
    trained.storage.write(f"{config}/environment.yaml", trained.environment.to_yaml().encode())
    trained.storage.write_json(f"{context.run.uri}/run.json", context.run.to_json())
    monkeypatch.setattr("sys.argv", ["batch_scoring", "score", "--config", config, "--run", context.run.uri])
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "3")
    for index in (2, 0, 1):
        assert not trained.storage.exists(context.run.step_uri("score"))
        monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", str(index))
        assert run_job() == 0
    assert trained.storage.read_json(context.run.step_uri("score"))["rows"] == 31
    assert len(trained.predictions()) == 31


def test_rows_stream_through_in_batches(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caudal.warehouse.duckdb.BATCH_ROWS", 2048)
    trained.arrive(payments(5000, "2026-02-01", first_key=1000), MARCH)
    seen: list[int] = []
    predict = step.predict
    monkeypatch.setattr(
        step, "predict", lambda c, p, rows, as_of: (seen.append(rows.num_rows), predict(c, p, rows, as_of))[1]
    )
    assert score(trained.context(MARCH))["rows"] == sum(seen) == 5000
    assert max(seen) <= 2048


def _champion(world: World) -> Any:

    ledger = world.environment.ledger(world.contract.name, "promotions")
    champion = Promotions(world.storage, ledger).head()
    assert champion is not None
    return champion


def test_the_image_holds_the_library_that_the_package_scores_with(repository: Path) -> None:
    locked = (repository / "requirements" / "batch_scoring.txt").read_text()
    trainer = (repository / "requirements" / "trainer.txt").read_text()
    for name in ("xgboost", "xgboost-cpu"):
        (line,) = [line for line in locked.splitlines() if line.startswith(f"{name}==")]
        assert line in trainer
