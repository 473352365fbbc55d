"""The figures of a champion's quality, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from monitor.quality import figures

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
