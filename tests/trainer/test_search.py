"""The search: on later rows, seeded, resumable, and open about what it proposes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from caudal.contract import Contract, parse_contract
from caudal.errors import UsageError
from caudal.storage import join
from pipeline.cli.tune import proposal
from pipeline.contract_edit import as_diff, with_values
from tests.trainer.conftest import SETTINGS, arrive
from tests.world import World, day
from trainer.search import Trial, best, folds, own_values, run_search, study_id
from trainer.snapshot import Snapshot, take_snapshot

AS_OF = day("2026-03-01")
SEARCH = {"space": {"max_depth": [1, 4], "learning_rate": [0.05, 0.5]}, "trials": 7, "folds": 2}


@pytest.fixture
def searched(small_contract: Any) -> Contract:
    made: Contract = small_contract({**SETTINGS, "model.search": SEARCH})
    return made


@pytest.fixture
def taken(searched: Contract, local_environment: Any) -> tuple[World, Snapshot]:
    world = World(searched, local_environment)
    arrive(world, 1200, "2026-01-05", AS_OF)
    snapshot = take_snapshot(
        searched, world.environment, world.storage, world.warehouse, as_of=AS_OF, attempt="t", unseen_after=None
    )
    return world, snapshot


def place(world: World, name: str) -> str:
    return join(world.environment.places.artifacts, name)


def test_folds_judge_rows_after_those_they_learn(searched: Contract) -> None:
    found = folds(searched, 4000)
    assert found == [((500, 2000), (2000, 2500)), ((1000, 2500), (2500, 3000))] or found == [
        ((1500, 3000), (3000, 3500)),
        ((2000, 3500), (3500, 4000)),
    ]
    for learned, judged in found:
        assert learned[1] == judged[0]
    assert found[-1][1][1] == 4000


def test_too_few_rows_for_the_folds_are_told(searched: Contract) -> None:
    with pytest.raises(UsageError, match="too few for 2 folds"):
        folds(searched, 600)


def test_a_search_that_was_stopped_ends_as_one_that_was_not(taken: tuple[World, Snapshot]) -> None:
    world, snapshot = taken
    whole = run_search(world.contract, snapshot, world.storage, place(world, "whole"))
    for trials in (2, 6, 7):
        resumed = run_search(world.contract, snapshot, world.storage, place(world, "resumed"), trials=trials)
    assert resumed == whole
    assert len(whole) == 7
    assert whole[0].values == own_values(world.contract) == {"max_depth": 3, "learning_rate": 0.3}
    assert len({str(trial.values) for trial in whole}) > 4


def test_a_search_that_is_complete_trains_nothing(
    taken: tuple[World, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, snapshot = taken
    done = run_search(world.contract, snapshot, world.storage, place(world, "s"), trials=2)
    monkeypatch.setattr("trainer.search.evaluate", None)
    seen: list[Trial] = []
    assert (
        run_search(world.contract, snapshot, world.storage, place(world, "s"), trials=2, after_each=seen.append)
        == done
    )
    assert seen == done


def test_another_recipe_is_another_search_and_more_trials_are_not(
    small_contract: Any, taken: tuple[World, Snapshot]
) -> None:
    world, snapshot = taken
    name = study_id(world.contract, snapshot)
    more = small_contract({**SETTINGS, "model.search": {**SEARCH, "trials": 50}})
    other = small_contract({**SETTINGS, "model.search": {**SEARCH, "seed": 1}})
    assert study_id(more, snapshot) == name
    assert study_id(other, snapshot) != name


def test_the_contracts_own_parameters_win_a_draw(searched: Contract) -> None:
    trials = [Trial(0, {"max_depth": 3}, 0.7, ()), Trial(1, {"max_depth": 2}, 0.7, ())]
    assert best(searched, trials).number == 0
    assert best(searched, [*trials, Trial(2, {"max_depth": 4}, 0.71, ())]).number == 2


def test_a_proposal_changes_only_the_searched_values(searched: Contract) -> None:
    edit = proposal(searched, Trial(3, {"max_depth": 2, "learning_rate": 0.3}, 0.8, ()))
    changed = [line for line in edit.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line.strip("+- ") for line in changed] == ["max_depth: 3", "max_depth: 2"]
    assert proposal(searched, Trial(0, own_values(searched), 0.8, ())) == ""


BLOCK = """model:
  type: xgboost   # the only one
  parameters:
    max_depth: 3  # shallow
    eta_like: 1
gate: {}
"""
FLOW = "model: {parameters: {max_depth: 3, subsample: 0.8}, type: xgboost}  # kept\n"


@pytest.mark.parametrize("text", [BLOCK, FLOW])
def test_an_edit_keeps_comments_and_layout(text: str) -> None:
    after = with_values(text, ("model", "parameters"), {"max_depth": 5, "gamma": 0.25})
    wanted = yaml.safe_load(text)
    wanted["model"]["parameters"] |= {"max_depth": 5, "gamma": 0.25}
    assert yaml.safe_load(after) == wanted
    for comment in ("# the only one", "# shallow", "# kept"):
        assert (comment in after) == (comment in text)
    assert as_diff(text, text, "c.yaml") == ""


def test_an_edit_of_a_section_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.parameters"):
        with_values("model: {type: xgboost}\n", ("model", "parameters"), {"max_depth": 5})


def test_the_shipped_contract_can_be_edited(bank_contract: Contract) -> None:
    after = with_values(bank_contract.text, ("model", "parameters"), {"max_depth": 5, "reg_lambda": 2.5})
    parameters = parse_contract(after).model.parameters
    assert (parameters.max_depth, parameters.reg_lambda) == (5, 2.5)
