"""The figures of a champion's quality, beside scikit-learn's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from caudal.environment import Environment
from monitor.quality import figures
from monitor.step import outcomes
from tests.world import World, day, payments

THRESHOLD = 0.2


@pytest.fixture(scope="module")
def judged() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(7)
    scores = generator.random(2_000)
    return (generator.random(2_000) < scores**2).astype(np.int64), scores


def test_decisions_are_judged_at_the_models_threshold(judged: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = judged
    decided = scores >= THRESHOLD
    found = {name: figure(labels, scores) for name, figure in figures("binary", THRESHOLD).items()}
    assert found["precision"] == pytest.approx(oracle.precision_score(labels, decided))
    assert found["recall"] == pytest.approx(oracle.recall_score(labels, decided))
    assert found["f1"] == pytest.approx(oracle.f1_score(labels, decided))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(labels, decided))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(labels, scores))


def test_without_a_threshold_of_its_own_a_model_decides_at_one_half(
    judged: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, scores = judged
    found = figures("binary", None)
    assert found["precision"](labels, scores) == pytest.approx(oracle.precision_score(labels, scores >= 0.5))
    assert found["recall"](labels, scores) == pytest.approx(oracle.recall_score(labels, scores >= 0.5))


def test_a_binary_model_is_judged_by_its_calibration_too() -> None:
    assert set(figures("binary", 0.5)) == {
        "auc", "average_precision", "log_loss", "brier", "accuracy", "precision", "recall", "f1",
        "calibration_error",
    }  # fmt: skip
    assert set(figures("regression", None)) == {"rmse", "mae", "r2"}


def test_of_several_classes_the_decisions_are_judged(small_contract: Any, local_environment: Environment) -> None:
    changes = {"label.column": "channel", "label.positive": None, "features.categorical": []}
    quality = {"monitor.quality.minimum_rows": 100, "monitor.quality.limits": {"f1": {"at_least": 0.99}}}
    contract = small_contract({**changes, **quality, "gate.metric": "accuracy"}, task="multiclass")
    world = World(contract, local_environment)
    rows = world.arrive(payments(1000, "2026-01-01"), day("2026-02-01"))
    champion = world.promote(rows, day("2026-02-01"), threshold=None, metrics={"accuracy": 1.0})
    arrived = payments(300, "2026-02-01", first_key=5000)
    world.arrive(arrived, day("2026-03-01"))
    truth, random = np.array(arrived["channel"]), np.random.default_rng(1)
    decided = np.where(random.random(300) < 0.3, random.permutation(truth), truth)
    scores = random.uniform(0.4, 1.0, 300)
    keys, times = arrived["payment"], arrived["paid_at"]
    world.predicted(champion, keys, times, scores, day("2026-03-01"), decisions=decided.tolist())

    as_of = day("2026-03-01") + contract.label.due_after + timedelta(days=1)
    result = outcomes(world.context(as_of))

    assert result["measures"]["live_accuracy"] == pytest.approx(np.mean(decided == truth))
    f1 = oracle.f1_score(truth, decided, average="macro")
    assert result["measures"]["live_f1"] == pytest.approx(f1, abs=1e-6)
    assert {alarm["measure"] for alarm in result["alarms"] if alarm["kind"] == "quality"} == {
        "live_accuracy",
        "live_f1",
    }
