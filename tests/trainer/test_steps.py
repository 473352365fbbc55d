"""The steps one after the other: from due rows to a model that is live."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caudal.contract import Contract
from caudal.environment import Environment, load_environment
from caudal.errors import StepFailed
from caudal.package import open_package
from caudal.promotions import Promotions
from caudal.storage.files import file_path
from caudal.tracking import Tracking
from tests.trainer.conftest import SETTINGS, arrive, through
from tests.world import World, day
from trainer.step import promote, snapshot, train, validate

FIRST, SECOND = day("2026-02-15"), day("2026-03-15")


def ledger(world: World) -> Promotions:
    return Promotions(world.storage, world.environment.ledger(world.contract.name, "promotions"))


def test_the_first_model_becomes_champion(world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    results = through(world.context(FIRST, outcomes={"reasons": ["first_model"]}))
    assert results["validate"]["verdict"] == "passed"
    (entry,) = ledger(world).history()
    assert (entry.version, entry.role, entry.reason) == (results["promote"]["version"], "champion", "first_model")
    assert entry.evidence["judged"] == results["train"]["version"] != entry.version
    package = open_package(world.storage, entry.package)
    assert package.metadata["trained"]["rows"] == 1500
    assert package.metadata["judged"]["rows"] == 375
    assert package.metadata["metrics"]["all"]["auc"]["value"] > 0.7


def test_the_package_says_what_the_learned_positives_looked_like(world: World) -> None:
    rows = arrive(world, 1600, "2026-01-05", FIRST)
    through(world.context(FIRST))
    package = open_package(world.storage, ledger(world).history()[0].package)
    due = [at <= FIRST - world.contract.label.due_after for at in rows.column("paid_at").to_pylist()]
    learned = np.array(rows.column("disputed").to_pylist())[due][-1500:]
    counted = package.profile["classes"]["yes"]
    assert counted["rows"] == np.sum(learned == "yes")
    assert sum(counted["features"]["amount"]["counts"]) == counted["rows"]


def test_the_champion_is_judged_on_rows_that_neither_has_learned(world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    first = through(world.context(FIRST))
    arrive(world, 1000, "2026-02-10", SECOND, first_key=5000, seed=1, days=20)
    second = through(world.context(SECOND))
    judged = second["validate"]
    assert judged["champion_version"] == first["promote"]["version"]
    champion = open_package(world.storage, ledger(world).history()[0].package)
    candidate_rows, judging_rows = second["train"]["split"]["learn"], second["train"]["split"]["judge"]
    assert candidate_rows[1] <= judging_rows[0]
    package = open_package(world.storage, ledger(world).history()[1].package)
    assert package.metadata["judged"]["from"] > champion.metadata["trained"]["until"]
    assert {check["name"] for check in judged["checks"]} >= {"unseen", "floor", "champion"}
    assert [entry.version for entry in ledger(world).history()] == [
        first["promote"]["version"],
        second["promote"]["version"],
    ]


def test_every_step_can_be_repeated(world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    context = world.context(FIRST)
    results: dict[str, Any] = context.results  # type: ignore[assignment]
    for name, step in (("snapshot", snapshot), ("train", train), ("validate", validate), ("promote", promote)):
        results[name] = step(context)
        before = stored(world)
        again = step(context)
        assert untimed(again) == untimed(results[name])
        assert stored(world) == before
    assert len(ledger(world).history()) == 1


def test_a_whole_run_can_be_repeated(world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    through(world.context(FIRST))
    arrive(world, 1000, "2026-02-10", SECOND, first_key=5000, seed=1, days=20)
    once = through(world.context(SECOND))
    before = stored(world)
    again = through(world.context(SECOND))
    assert {name: untimed(result) for name, result in again.items()} == {
        name: untimed(result) for name, result in once.items()
    }
    assert stored(world) == before


def stored(world: World) -> dict[str, str]:
    places = (world.environment.places.artifacts, world.environment.places.models)
    return {found.name: found.generation for place in places for found in world.storage.objects(place)}


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if not key.endswith("seconds")}


def test_the_same_rows_and_recipe_give_the_same_version_and_bytes_anywhere(
    trainable: Contract, tmp_path: Path, repository: Path
) -> None:
    found = []
    for name in ("one", "two"):
        local = load_environment(repository / "environments" / "local.yaml", root=tmp_path / name)
        world = World(trainable, local)
        arrive(world, 1600, "2026-01-05", FIRST)
        results = through(world.context(FIRST, request=None if name == "one" else "again"))
        package = results["promote"]["version"]
        models = world.storage.objects(world.environment.places.models)
        # Files lie below an attempt's own folder; what counts is their names and bytes.
        contents = {
            file_path(o.uri).name: hashlib.sha256(file_path(o.uri).read_bytes()).hexdigest()
            for o in models
            if not o.uri.endswith("MANIFEST.json")
        }
        found.append((package, results["train"]["version"], contents))
    assert found[0] == found[1]
    assert len(found[0][2]) == 8


def test_another_recipe_gives_another_version(
    small_contract: Any, trainable: Contract, local_environment: Environment
) -> None:
    world = World(trainable, local_environment)
    arrive(world, 1600, "2026-01-05", FIRST)
    first = through(world.context(FIRST), "snapshot", "train")
    other = small_contract({**SETTINGS, "model.parameters.max_depth": 2, "question": "The same?"})
    world.contract = other
    second = through(world.context(FIRST), "snapshot", "train")
    assert second["snapshot"]["snapshot"] == first["snapshot"]["snapshot"]
    assert second["train"]["version"] != first["train"]["version"]


def test_words_that_decide_nothing_give_no_other_version(
    small_contract: Any, trainable: Contract, local_environment: Environment
) -> None:
    world = World(trainable, local_environment)
    arrive(world, 1600, "2026-01-05", FIRST)
    first = through(world.context(FIRST), "snapshot", "train", "validate")
    changed = {"question": "Asked otherwise?", "monitor.drift.threshold": 0.5, "columns.amount.unit": "euro"}
    world.contract = small_contract(
        {**SETTINGS, "question": changed["question"], "monitor": {"drift": {"threshold": 0.5}}}
    )
    second = through(world.context(FIRST), "snapshot", "train", "validate")
    assert second["validate"]["refit"] == first["validate"]["refit"]


def test_too_few_rows_are_an_answer_of_their_own(world: World) -> None:
    arrive(world, 100, "2026-01-05", FIRST)
    results = through(world.context(FIRST))
    assert results["train"]["version"] is None
    assert results["validate"]["verdict"] == "too_few_rows"
    assert "promote" not in results
    assert ledger(world).head() is None


def test_no_rows_at_all_are_an_answer_too(world: World) -> None:
    results = through(world.context(FIRST))
    assert (results["snapshot"]["rows"], results["validate"]["verdict"]) == (0, "too_few_rows")


def test_rows_of_one_class_are_no_verdict(world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST, disputed=["no"] * 1600)
    results = through(world.context(FIRST))
    assert results["validate"]["verdict"] == "one_class"
    assert json.dumps(results["validate"], allow_nan=False)


def test_a_refused_candidate_leaves_the_champion_live(world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    first = through(world.context(FIRST))
    generator = np.random.default_rng(9)
    noise = generator.choice(["yes", "no"], 1000).tolist()
    arrive(world, 1000, "2026-02-10", SECOND, first_key=5000, seed=1, days=20, disputed=noise)
    second = through(world.context(SECOND))
    assert second["validate"]["verdict"] == "refused"
    assert "floor" in second["validate"]["reason"]
    assert "promote" not in second
    assert ledger(world).head().version == first["promote"]["version"]  # type: ignore[union-attr]
    names = world.storage.names(world.environment.packages("payments", "xgboost"))
    assert names == [first["promote"]["version"]]


def test_a_champion_that_changed_meanwhile_stops_the_promotion(world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    context = world.context(FIRST)
    through(context, "snapshot", "train", "validate")
    training = world.arrive({"payment": [1], "paid_at": [day("2026-01-01")], "disputed": ["no"]}, FIRST)
    world.promote(training, day("2026-02-01"))
    with pytest.raises(StepFailed, match="was judged against None"):
        promote(context)


def test_an_environment_with_a_rollout_names_a_challenger_first(world: World) -> None:
    world.environment = world.environment.model_copy(update={"rollout": "challenger"})
    arrive(world, 1600, "2026-01-05", FIRST)
    assert through(world.context(FIRST))["promote"]["role"] == "champion"
    arrive(world, 1000, "2026-02-10", SECOND, first_key=5000, seed=1, days=20)
    assert through(world.context(SECOND))["promote"]["role"] == "challenger"
    assert ledger(world).challenger() is not None
    assert ledger(world).head() == ledger(world).history()[0]


def test_a_champion_of_an_older_contract_can_still_be_judged(small_contract: Any, world: World) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    through(world.context(FIRST))
    world.contract = small_contract({**SETTINGS, "features.numeric": ["amount", "items"]})
    arrive(world, 1000, "2026-02-10", SECOND, first_key=5000, seed=1, days=20)
    second = through(world.context(SECOND))
    assert second["validate"]["champion_version"] is not None
    assert second["validate"]["champion"] > 0.6


def test_mlflow_holds_one_run_a_step_and_follows_the_ledger(world: World, mlflow: None) -> None:
    arrive(world, 1600, "2026-01-05", FIRST)
    context = world.context(FIRST)
    results = through(context)
    through(context)
    client = Tracking.of(world.environment).client
    experiment = client.get_experiment_by_name("payments")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["train 2026-02-15", "validate 2026-02-15"]
    judged = runs["validate 2026-02-15"]
    assert judged.data.metrics["auc"] == results["validate"]["metrics"]["all"]["auc"]["value"]
    assert judged.data.tags["verdict"] == "passed"
    champion = client.get_model_version_by_alias("payments", "champion")
    assert champion.tags["caudal.version"] == results["promote"]["version"]


def test_personal_values_reach_neither_card_nor_mlflow_nor_example(
    small_contract: Any, local_environment: Environment, mlflow: None
) -> None:
    contract = small_contract(
        {
            **SETTINGS,
            "features.text": {"customer": {"hashed": 16}},
            "columns.amount.personal": True,
            "gate.floor": 0.0,
        }
    )
    world = World(contract, local_environment)
    names = [f"Quitterie{i} Ferreira" for i in range(1600)]
    arrive(world, 1600, "2026-01-05", FIRST, customer=names, amount=[7777.77, *([5.0, 90.0, 300.0] * 533)])
    results = through(world.context(FIRST))
    package = open_package(
        world.storage, world.environment.packages("payments", "xgboost", results["promote"]["version"])
    )
    database = file_path("file://" + local_environment.tracking.removeprefix("sqlite:///")).read_bytes()
    for text in (package.card.encode(), json.dumps(package.input_example).encode(), database):
        assert b"Quitterie" not in text
        assert b"7777" not in text
