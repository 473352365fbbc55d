from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.step import StepContext
from caudal.tracking import Tracking
from tests.world import World, payments
from trainer.step import promote, snapshot, train, validate

STEPS = {"snapshot": snapshot, "train": train, "validate": validate, "promote": promote}
SETTINGS = {
    "model.parameters": {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.3},
    "model.train_on": {"latest": 1500, "minimum": 300, "judge_share": 0.25},
    "model.threshold": {"cost_false_positive": 1, "cost_false_negative": 4},
    "gate": {
        "metric": "auc",
        "floor": 0.6,
        "against_champion": {"at_least": -0.05, "samples": 200},
        "minimum_rows": 200,
        "slices": ["channel"],
        "slice_minimum_rows": 50,
    },
}


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without anything in it; making one costs seconds, so it is made once and copied."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    assert Tracking(f"sqlite:///{path}").client.search_experiments()
    return path


@pytest.fixture
def mlflow(new_database: Path, local_environment: Environment) -> None:
    """Asked for by a test that is about MLflow; others go without."""
    path = Path(local_environment.tracking.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(new_database, path)


@pytest.fixture(autouse=True)
def _without_mlflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "mlflow" not in request.fixturenames:
        monkeypatch.setattr(Tracking, "record", lambda self, *arguments, **named: "not recorded")
        monkeypatch.setattr(Tracking, "follow", lambda self, *arguments, **named: None)


@pytest.fixture
def trainable(small_contract: Any) -> Contract:
    """The made-up contract with settings at which a few hundred rows train and judge."""
    made: Contract = small_contract(SETTINGS)
    return made


@pytest.fixture
def world(trainable: Contract, local_environment: Environment) -> World:
    return World(trainable, local_environment)


def through(context: StepContext, *names: str) -> dict[str, Any]:
    """Runs steps one after the other, as a run does; returns their results."""
    results: dict[str, Any] = context.results  # type: ignore[assignment]
    for name in names or STEPS:
        if name == "promote" and not results["validate"]["passed"]:
            break
        results[name] = STEPS[name](context)
    return results


Arrive = Callable[..., Any]


def arrive(world: World, count: int, start: str, as_of: datetime, **more: Any) -> Any:
    """Rows of four weeks from `start`, in the warehouse at `as_of`."""
    return world.arrive(payments(count, start, **more), as_of)
