from __future__ import annotations

from typing import Any

import pytest

from caudal.environment import Environment
from caudal.tracking import Tracking
from tests.world import World


@pytest.fixture
def mlflow() -> None:
    """Asked for by a test that is about MLflow; a new database costs two seconds, so others go without."""


@pytest.fixture(autouse=True)
def _without_mlflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "mlflow" not in request.fixturenames:
        monkeypatch.setattr(Tracking, "record", lambda self, *arguments, **named: "not recorded")
        monkeypatch.setattr(Tracking, "follow", lambda self, *arguments, **named: None)


@pytest.fixture
def world(small_contract: Any, local_environment: Environment) -> World:
    """The made-up contract, with few rows enough to judge and to train."""
    return World(
        small_contract(
            {
                "monitor.drift.minimum_rows": 100,
                "monitor.quality.minimum_rows": 100,
                "model.train_on.minimum": 200,
                "retrain.new_rows": 10_000,
            }
        ),
        local_environment,
    )
