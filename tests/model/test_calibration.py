"""Calibration: probabilities that mean what they say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from caudal.metrics import auc, calibration_error
from caudal.package import Calibrator


def overconfident(seed: int, rows: int = 4000) -> tuple[Any, Any]:
    """Labels, and scores that lie too near to 0 and 1."""
    generator = np.random.default_rng(seed)
    logit = generator.normal(-1, 1.5, rows)
    labels = (generator.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return labels, 1 / (1 + np.exp(-(2.5 * logit + 1)))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_mends_scores_of_other_rows(method: Any) -> None:
    calibrator = Calibrator.fit(method, *overconfident(1))
    labels, scores = overconfident(2)
    before, after = calibration_error(labels, scores), calibration_error(labels, calibrator.apply(scores))
    assert before > 0.1
    assert after < 0.03
    assert auc(labels, calibrator.apply(scores)) == pytest.approx(auc(labels, scores), abs=0.005)


def test_isotonic_is_scikit_learns() -> None:
    labels, scores = overconfident(3, 500)
    scores = np.round(scores, 2)
    wanted = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    made = Calibrator.fit("isotonic", labels, scores)
    grid = np.linspace(0, 1, 301)
    assert made.apply(grid) == pytest.approx(wanted.predict(grid), abs=1e-9)


def test_sigmoid_is_logistic_regression_on_the_logit() -> None:
    labels, scores = overconfident(4)
    kept = np.clip(scores, 1e-7, 1 - 1e-7)
    logit = np.log(kept / (1 - kept)).reshape(-1, 1)
    wanted = LogisticRegression(C=1e9).fit(logit, labels)
    made = Calibrator.fit("sigmoid", labels, scores)
    # Platt's targets are smoothed by about one row in each class.
    assert made.x == pytest.approx((wanted.coef_[0, 0], wanted.intercept_[0]), abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=2, max_size=40))
def test_a_calibrator_never_turns_the_order_round(rows: list[tuple[int, float]]) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    if len(set(labels)) < 2:
        return
    for method in ("sigmoid", "isotonic"):
        made = Calibrator.fit(method, labels, scores).apply(np.linspace(0, 1, 50))  # type: ignore[arg-type]
        assert (np.diff(made) >= -1e-12).all()
        assert ((made >= 0) & (made <= 1)).all()


def test_it_survives_its_package() -> None:
    made = Calibrator.fit("isotonic", *overconfident(5, 200))
    again = Calibrator.from_json(json.loads(json.dumps(made.to_json())))
    grid = np.linspace(0, 1, 50)
    assert np.array_equal(again.apply(grid), made.apply(grid))


def test_one_class_can_not_calibrate() -> None:
    with pytest.raises(ValueError, match="both classes"):
        Calibrator.fit("sigmoid", np.zeros(5), np.linspace(0, 1, 5))
