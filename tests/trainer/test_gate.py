"""The gate proves itself: what it must refuse, it refuses, and for that reason; what it must pass, it passes.

Each mutation is a real training on rows with a known rule; only what the test names is wrong with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caudal import metrics
from caudal.contract import Contract
from trainer.gate import Contender, Verdict, judge

xgb = pytest.importorskip("xgboost")

ROWS, LEARN = 6000, 4000


def rule(generator: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Four features, two of which decide, with noise; AUC of the perfect model is about .83."""
    X = generator.normal(size=(rows, 4)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(1.5 * X[:, 0] + X[:, 0] * X[:, 1] - 0.5)))
    return X, (generator.random(rows) < chance).astype(np.int8)


X, Y = rule(np.random.default_rng(0), ROWS)
JUDGED = slice(LEARN, ROWS)
LABELS = Y[JUDGED]


def trained(data: Any, labels: Any, rounds: int = 40, seed: int = 0) -> Any:
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": seed, "subsample": 0.8}
    return xgb.train(parameters, xgb.QuantileDMatrix(data, labels), rounds)


def scores(booster: Any, data: Any = None) -> Any:
    return booster.inplace_predict(X[JUDGED] if data is None else data).astype(np.float64)


@pytest.fixture(scope="module")
def good() -> Contender:
    return Contender("good", scores(trained(X[:LEARN], Y[:LEARN])), 0.5)


@pytest.fixture(scope="module")
def worse() -> Contender:
    """A champion of old: it never saw the second feature."""
    blind = X.copy()
    blind[:, 1] = 0
    return Contender("worse", scores(trained(blind[:LEARN], Y[:LEARN]), blind[JUDGED]), 0.5)


@pytest.fixture(scope="module")
def gate(small_contract: Any) -> Any:
    def made(at_least: float = -0.02, **more: Any) -> Contract:
        against = {"at_least": at_least, "samples": 400}
        contract: Contract = small_contract(
            gate={"metric": "auc", "against_champion": against, "minimum_rows": 200, "slices": ["channel"], **more}
        )
        return contract

    return made


def failed(verdict: Verdict) -> set[str]:
    return {check.name.split(":")[0] for check in verdict.checks if not check.passed}


def test_a_truly_better_candidate_passes_superiority(gate: Any, good: Contender, worse: Contender) -> None:
    verdict = judge(gate(0.0), LABELS, good, worse)
    assert verdict.passed
    assert verdict.figures["difference"]["low"] > 0
    assert verdict.figures["candidate"] == pytest.approx(metrics.auc(LABELS, good.scores))
    assert verdict.figures["champion"] == pytest.approx(metrics.auc(LABELS, worse.scores))


def test_a_swapped_pair_is_refused(gate: Any, good: Contender, worse: Contender) -> None:
    for at_least in (0.0, -0.01):
        verdict = judge(gate(at_least), LABELS, worse, good)
        assert verdict.answer == "refused"
        assert failed(verdict) == {"champion"}


def test_a_worse_candidate_is_refused(gate: Any, good: Contender) -> None:
    weak = Contender("weak", scores(trained(X[:60], Y[:60], rounds=3)), 0.5)
    assert failed(judge(gate(-0.02), LABELS, weak, good)) == {"champion"}


def test_an_identical_candidate_is_refused_under_superiority_and_passes_non_inferiority(
    gate: Any, good: Contender
) -> None:
    same = replace(good, version="same")
    assert failed(judge(gate(0.0), LABELS, same, good)) == {"champion"}
    assert judge(gate(-0.02), LABELS, same, good).passed


def test_a_candidate_with_shuffled_features_is_refused(gate: Any, good: Contender) -> None:
    shuffled = X[:LEARN][np.random.default_rng(1).permutation(LEARN)]
    lost = Contender("shuffled", scores(trained(shuffled, Y[:LEARN])), 0.5)
    assert failed(judge(gate(-0.02, floor=0.6), LABELS, lost, good)) == {"floor", "champion"}
    assert failed(judge(gate(-0.02, floor=0.6), LABELS, lost, None)) == {"floor"}


def test_a_candidate_that_knows_the_label_is_refused(gate: Any, good: Contender) -> None:
    leak = np.column_stack([X, Y + np.random.default_rng(2).normal(0, 0.1, ROWS)]).astype(np.float32)
    knowing = Contender("leaking", scores(trained(leak[:LEARN], Y[:LEARN]), leak[JUDGED]), 0.5)
    assert metrics.auc(LABELS, knowing.scores) > 0.99
    verdict = judge(gate(0.0, ceiling=0.95), LABELS, knowing, good)
    assert failed(verdict) == {"ceiling"}
    assert "tells the label" in verdict.reasons[0]
    assert judge(gate(0.0, ceiling=0.95), LABELS, good, None).passed


def test_a_candidate_that_learned_judging_rows_is_refused(gate: Any, good: Contender) -> None:
    seen = Contender("seen", scores(trained(X, Y)), 0.5, overlap=len(LABELS))
    assert metrics.auc(LABELS, seen.scores) > metrics.auc(LABELS, good.scores)
    verdict = judge(gate(0.0), LABELS, seen, good)
    assert (verdict.answer, failed(verdict)) == ("refused", {"unseen"})
    assert "candidate" not in verdict.figures, "figures of seen rows say nothing, and are not told"


def test_a_champion_that_learned_judging_rows_stops_the_comparison(gate: Any, good: Contender) -> None:
    seen = Contender("seen", scores(trained(X, Y)), 0.5, overlap=1)
    assert failed(judge(gate(0.0), LABELS, good, seen)) == {"unseen"}


def test_without_a_champion_a_candidate_is_judged_by_itself(gate: Any, good: Contender) -> None:
    assert judge(gate(0.0, floor=0.7), LABELS, good, None).passed
    assert failed(judge(gate(0.0, floor=0.95), LABELS, good, None)) == {"floor"}


def test_ten_rows_are_no_verdict(gate: Any, good: Contender, worse: Contender) -> None:
    few = [replace(one, scores=one.scores[:10]) for one in (good, worse)]
    verdict = judge(gate(), LABELS[:10], *few)
    assert (verdict.answer, verdict.passed) == ("too_few_rows", False)
    assert "10 judging rows, and 200 are needed" in verdict.reasons[0]


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_only_is_no_verdict(gate: Any, good: Contender, worse: Contender, only: int) -> None:
    verdict = judge(gate(), np.full(len(LABELS), only, np.int8), good, worse)
    assert (verdict.answer, verdict.passed) == ("one_class", False)


def test_scores_that_are_no_numbers_are_refused(gate: Any, good: Contender, worse: Contender) -> None:
    broken = good.scores.copy()
    broken[3] = np.nan
    assert failed(judge(gate(), LABELS, replace(good, scores=broken), worse)) == {"scores"}


def slices(weak: int) -> dict[str, pa.Array]:
    names = np.where(np.arange(len(LABELS)) < weak, "app", "web")
    return {"channel": pa.array(names)}


def test_a_candidate_that_fails_one_slice_is_refused(gate: Any, good: Contender) -> None:
    harmed = good.scores.copy()
    harmed[:300] = np.random.default_rng(3).random(300)
    candidate = Contender("harmed", harmed, 0.5)
    contract = gate(-0.2, slice_allowed_loss=0.05)
    verdict = judge(contract, LABELS, candidate, good, slices(300))
    assert failed(verdict) == {"slice"}
    assert "channel = app" in verdict.reasons[0]


def test_a_slice_of_few_rows_is_not_judged(gate: Any, good: Contender) -> None:
    harmed = good.scores.copy()
    harmed[:50] = 1 - harmed[:50]
    contract = gate(-0.2, slice_minimum_rows=100)
    assert judge(contract, LABELS, Contender("harmed", harmed, 0.5), good, slices(50)).passed


def test_a_slice_without_rows_of_both_classes_is_passed_over(gate: Any, good: Contender, worse: Contender) -> None:
    only = {"channel": pa.array(np.where(LABELS == 1, "app", "web"))}
    assert judge(gate(0.0), LABELS, good, worse, only).passed


def test_wrong_probabilities_are_refused_where_the_contract_asks(gate: Any, good: Contender) -> None:
    # The order of rows is the same, and so is AUC; the probabilities are not.
    boasting = Contender("boasting", good.scores**0.2, 0.5)
    assert judge(gate(-0.02), LABELS, boasting, good).passed
    assert failed(judge(gate(-0.02, calibration_error=0.1), LABELS, boasting, good)) == {"calibration"}
    assert judge(gate(-0.02, calibration_error=0.1), LABELS, good, boasting).passed


def test_a_model_that_is_too_large_is_refused(gate: Any, good: Contender) -> None:
    contract = gate(-0.02, largest_package_bytes=1000)
    assert failed(judge(contract, LABELS, replace(good, size=1001), None)) == {"size"}
    assert judge(contract, LABELS, replace(good, size=1000), None).passed


def test_a_loss_is_better_when_it_is_smaller(gate: Any, good: Contender, worse: Contender) -> None:
    contract = gate(0.0, metric="log_loss", floor=0.6)
    assert judge(contract, LABELS, good, worse).passed
    assert failed(judge(contract, LABELS, worse, good)) == {"champion"}
    assert "floor" in failed(judge(gate(0.0, metric="log_loss", floor=0.1), LABELS, good, worse))


def test_a_verdict_names_all_that_speaks_against_a_candidate(gate: Any, good: Contender, worse: Contender) -> None:
    contract = gate(0.0, floor=0.99, largest_package_bytes=10)
    verdict = judge(contract, LABELS, replace(worse, size=11), good)
    assert failed(verdict) == {"floor", "size", "champion"}
    assert len(verdict.reasons) == 3
    assert verdict.to_json()["reason"].count(";") == 2


def test_the_verdict_is_the_same_every_time(gate: Any, good: Contender, worse: Contender) -> None:
    assert judge(gate(), LABELS, good, worse).to_json() == judge(gate(), LABELS, good, worse).to_json()


def test_non_inferiority_holds_its_level(gate: Any, good: Contender) -> None:
    """Of candidates that are worse by exactly the margin, about a twentieth passes (90 % interval, two-sided)."""
    generator = np.random.default_rng(5)
    passed, tries, rows, margin = 0, 60, 800, 0.05
    for _ in range(tries):
        labels = (generator.random(rows) < 0.5).astype(np.int8)
        # Scores of a normal model with separation d have AUC Phi(d / sqrt 2): .80 and .75.
        champion = labels * 1.19023 + generator.normal(size=rows)
        candidate = labels * 0.953873 + generator.normal(size=rows)
        contract = gate(-margin)
        one, two = Contender("c", candidate, None), Contender("d", champion, None)
        passed += judge(contract, labels, one, two).passed
    # Binomial(60, .05): 3 expected, more than 9 has probability .001.
    assert passed <= 9
