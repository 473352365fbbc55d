"""Training: the same bytes whatever the threads and batches, and what the contract asks for beyond trees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.package import Encoder
from tests.conftest import REMOVED
from tests.trainer.conftest import SETTINGS, arrive, through
from tests.world import World, day
from trainer.boosting import booster_parameters, fit, matrix, positive_weight
from trainer.recipe import learn
from trainer.snapshot import Rows, take_snapshot

xgb = pytest.importorskip("xgboost")
AS_OF = day("2026-03-01")


@pytest.fixture
def make(small_contract: Any, local_environment: Environment) -> Any:
    def made(changes: dict[str, Any] | None = None, count: int = 1500, **columns: Any) -> Rows:
        contract = small_contract({**SETTINGS, **(changes or {})})
        world = World(contract, local_environment)
        arrive(world, count, "2026-01-05", AS_OF, **columns)
        taken = take_snapshot(
            contract,
            world.environment,
            world.storage,
            world.warehouse,
            as_of=AS_OF,
            attempt="t",
            unseen_after=None,
        )
        return taken.part(0, taken.rows)

    return made


def trained(rows: Rows, contract: Contract | None = None) -> bytes:
    contract = contract or rows.contract
    encoder = Encoder.fit(contract, rows.batches())
    return bytes(fit(contract, encoder, rows, 15).booster.save_raw("ubj"))


def test_threads_and_batches_do_not_change_the_bytes(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make({"model.parameters.subsample": 0.7, "model.parameters.colsample_bytree": 0.7})
    first = trained(rows)
    monkeypatch.setenv("CAUDAL_TRAINER_THREADS", "3")
    assert trained(rows) == first
    monkeypatch.setattr(Encoder, "rows_at_once", lambda self: 97)
    assert trained(rows) == first
    monkeypatch.setattr("trainer.boosting._KEPT_BYTES", 0)
    assert trained(rows) == first


def test_another_order_of_rows_would_change_them(make: Any) -> None:
    """Which is why a snapshot fixes the order."""
    rows = make({"model.parameters.subsample": 0.7})
    table = rows.table()
    encoder = Encoder.fit(rows.contract, [table])
    turned = table.take(np.arange(table.num_rows)[::-1].copy())
    said = booster_parameters(rows.contract, encoder, rows)

    def bytes_of(data: Any, labels: Any) -> bytes:
        made = xgb.QuantileDMatrix(
            encoder.encode(data), labels, feature_types=encoder.column_types(), enable_categorical=True
        )
        return bytes(xgb.train(said, made, 15).save_raw("ubj"))

    assert bytes_of(table, rows.labels) != bytes_of(turned, rows.labels[::-1].copy())


def test_external_memory_gives_a_model_too_and_leaves_nothing_behind(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = make()
    inside = trained(rows)
    outside = trained(rows, rows.contract.model_copy(
        update={"model": rows.contract.model.model_copy(update={"external_memory_above": 10})}
    ))  # fmt: skip
    assert outside == inside
    assert not list(tmp_path.glob("caudal-train-*"))


def test_exact_trees_take_the_plain_matrix(make: Any) -> None:
    rows = make({"model.parameters.tree_method": "exact", "features.categorical": []})
    encoder = Encoder.fit(rows.contract, rows.batches())
    assert type(matrix(rows.contract, encoder, rows)) is xgb.DMatrix
    assert trained(rows)


def test_text_is_learned_through_the_sparse_way(make: Any) -> None:
    generator = np.random.default_rng(0)
    loud = generator.random(1500) < 0.5
    rows = make(
        {"features.text": {"customer": {"hashed": 512, "ngrams": 2}}},
        customer=np.where(loud, "please help now", "all is well").tolist(),
        disputed=np.where(loud, "yes", "no").tolist(),
    )
    learned = learn(rows.contract, rows)
    assert learned.encoder.is_sparse
    scores = rows.scores(learned.booster, learned.encoder)
    assert scores[loud].min() > scores[~loud].max()


def test_monotone_constraints_hold(make: Any) -> None:
    free, bound = make({}), make({"model.monotone": {"amount": "increasing"}})
    table = bound.table()
    row = table.slice(0, 1)

    def rises(rows: Rows) -> bool:
        encoder = Encoder.fit(rows.contract, rows.batches())
        booster = fit(rows.contract, encoder, rows, 40).booster
        matrix_ = np.repeat(encoder.encode(row), 300, axis=0)
        matrix_[:, 0] = np.linspace(0, 500, 300)
        return bool((np.diff(booster.inplace_predict(matrix_)) >= -1e-7).all())

    assert rises(bound)
    assert not rises(free), "without the constraint this data gives a curve that falls somewhere"


def test_balanced_classes_weigh_alike(make: Any) -> None:
    rows = make({"model.parameters.scale_pos_weight": "balanced"})
    positives = int(rows.labels.sum())
    assert positive_weight(rows.contract, rows) == pytest.approx((len(rows) - positives) / positives)
    plain = make({})
    assert learn(rows.contract, rows).encoder.width == learn(plain.contract, plain).encoder.width


def test_early_stopping_watches_the_most_recent_rows_and_then_learns_all(make: Any) -> None:
    rows = make({"model.early_stopping": {"rounds": 5}, "model.parameters.n_estimators": 400})
    learned = learn(rows.contract, rows)
    assert 0 < learned.decided.rounds < 400
    assert learned.booster.num_boosted_rounds() == learned.decided.rounds


def test_calibration_and_threshold_come_from_rows_that_were_not_learned(make: Any) -> None:
    rows = make({"model.calibration": "sigmoid", "model.parameters.n_estimators": 200})
    learned = learn(rows.contract, rows)
    assert learned.decided.calibrator is not None
    # So many trees know their own rows by heart; what they say of others must be drawn towards the middle.
    assert learned.decided.calibrator.x[0] < 1
    assert learned.decided.threshold is not None
    assert 0 < learned.decided.threshold < 1


def test_multiclass_and_regression_are_trained_and_judged(small_contract: Any, local_environment: Any) -> None:
    for changes, task in (
        ({"label.column": "channel", "features.categorical": [], "gate.metric": "accuracy"}, "multiclass"),
        ({"label.column": "rate", "features.numeric": ["amount", "items"], "gate.metric": "rmse"}, "regression"),
    ):
        settings = {k: v for k, v in SETTINGS.items() if k not in ("gate", "model.threshold")}
        against = {"gate.against_champion.at_least": 0.0, "gate.minimum_rows": 200, "label.positive": REMOVED}
        contract = small_contract({**settings, **against, **changes}, task=task, name=task)
        world = World(contract, local_environment)
        arrive(world, 1600, "2026-01-05", AS_OF)
        results = through(world.context(AS_OF))
        assert results["validate"]["verdict"] == "passed"
        assert results["promote"]["version"]
        metrics = results["validate"]["metrics"]["all"]
        assert set(metrics) == (
            {"auc", "log_loss", "accuracy", "f1"} if task == "multiclass" else {"rmse", "mae", "r2"}
        )


def test_two_processes_write_the_same_bytes(tmp_path: Path, repository: Path) -> None:
    code = """
import sys, hashlib
from pathlib import Path
sys.path[:0] = ["."]
from tests.conftest import SMALL_CONTRACT
import yaml, copy
from caudal.contract import parse_contract
from caudal.environment import load_environment
from tests.trainer.conftest import SETTINGS, arrive, through
from tests.world import World, day
from caudal.tracking import Tracking
Tracking.record = lambda *a, **k: "x"
Tracking.follow = lambda *a, **k: None
values = copy.deepcopy(SMALL_CONTRACT)
for path, value in SETTINGS.items():
    *parents, last = path.split(".")
    inner = values
    for name in parents:
        inner = inner.setdefault(name, {})
    inner[last] = value
contract = parse_contract(yaml.safe_dump(values, sort_keys=False))
world = World(contract, load_environment(Path("environments/local.yaml"), Path(sys.argv[1])))
arrive(world, 1600, "2026-01-05", day("2026-03-01"))
results = through(world.context(day("2026-03-01")))
found = world.storage.objects(world.environment.places.models)
models = sorted(o.uri.rsplit("/", 1)[1] + o.generation for o in found)
print(results["promote"]["version"], [m for m in models if not m.startswith("MANIFEST")])
"""
    said = set()
    for name, threads, seed in (("a", "1", "1"), ("b", "4", "2")):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            cwd=repository,
            env={
                "PYTHONPATH": "libs:services:.",
                "CAUDAL_TRAINER_THREADS": threads,
                "PYTHONHASHSEED": seed,
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said.add(done.stdout)
    assert len(said) == 1
