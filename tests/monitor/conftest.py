from __future__ import annotations

from typing import Any

import pytest

from caudal.environment import Environment
from tests.world import World


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
