"""The package: whole or absent, the same bytes from the same inputs, and enough to score by itself."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caudal.contract import Contract, parse_contract
from caudal.errors import NotFound, PackageError
from caudal.package import Encoder, ModelPackage, PackageContent, open_package, write_package
from caudal.package.onnx import OnnxModel, prove_parity, to_onnx
from caudal.package.reader import FILES, open_candidate, raw_scores
from caudal.package.writer import made_up_row
from caudal.profile import profile
from caudal.storage import Storage, join
from caudal.storage.files import FileStorage, file_path, file_uri

xgb = pytest.importorskip("xgboost")

VERSION = "0123456789abcdef"


def rows(count: int = 400, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    missing = generator.random(count) < 0.2
    return pa.table(
        {
            "amount": pa.array(generator.integers(1, 999, count).astype(float)),
            "items": pa.array(generator.integers(1, 9, count), mask=missing),
            "rate": pa.array(np.round(generator.random(count), 3), mask=missing[::-1].copy()),
            "channel": pa.array(generator.choice(["web", "app", "desk"], count), mask=missing),
            "abroad": pa.array(generator.random(count) < 0.5),
        }
    )


def labels_of(table: pa.Table) -> Any:
    amount = np.asarray(table.column("amount"))
    return ((amount > 500) ^ (np.asarray(table.column("abroad")) & (amount > 800))).astype(np.int8)


def trained(encoder: Encoder, table: pa.Table, objective: str = "binary:logistic", **parameters: Any) -> Any:
    labels = labels_of(table)
    data = xgb.QuantileDMatrix(
        encoder.encode(table),
        labels,
        feature_names=encoder.column_names(),
        feature_types=encoder.column_types(),
        enable_categorical=True,
    )
    return xgb.train({"objective": objective, "max_depth": 3, "nthread": 1, **parameters}, data, 12)


@cache
def content_of(text: str, whole: bool, calibration: str) -> PackageContent:
    return _content(parse_contract(text), whole=whole, calibration=json.loads(calibration))


def content(contract: Contract, *, whole: bool = True, calibration: Any = None) -> PackageContent:
    """Made once for the same arguments; the test of equal bytes makes it twice."""
    return content_of(contract.text, whole, json.dumps(calibration))


def _content(contract: Contract, *, whole: bool = True, calibration: Any = None) -> PackageContent:
    table = rows()
    encoder = Encoder.fit(contract, [table])
    booster = trained(encoder, table)
    scores = raw_scores(booster, encoder, table)
    part = {"from": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z", "rows": 400}
    metadata = {
        "version": VERSION,
        "snapshot": "fedcba9876543210",
        "unit": "unit",
        "task": "binary",
        "classes": [],
        "threshold": 0.25,
        "calibration": calibration,
        "trained": part,
        "judged": {**part, "version": "aaaa", "level": 0.9},
        "metrics": {
            "all": {"auc": {"value": 0.9, "low": 0.8, "high": 0.95}},
            "slices": {"channel": {"web": {"rows": 40, "metrics": {"auc": 0.9}}}},
        },
    }
    onnx = to_onnx(booster) if whole else None
    return PackageContent(
        contract, bytes(booster.save_raw("ubj")), onnx, encoder, metadata, profile(contract, table, scores)
    )


@pytest.fixture
def contract(small_contract: Any) -> Contract:
    made: Contract = small_contract()
    return made


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return FileStorage(tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> str:
    return join(file_uri(tmp_path), "models", VERSION)


@pytest.fixture
def package(contract: Contract, storage: Storage, place: str) -> ModelPackage:
    return write_package(storage, place, content(contract))


def test_a_package_scores_by_itself_and_both_engines_agree(package: ModelPackage) -> None:
    fresh = rows(seed=1)
    scores = package.score(fresh)
    assert scores.shape == (400,)
    assert ((scores > 0) & (scores < 1)).all()
    assert np.abs(package.onnx_model.predict(package.encoder.encode(fresh)) - scores).max() < 1e-6
    for i, row in enumerate(fresh.slice(0, 20).to_pylist()):
        assert package.score_row(row)[0] == pytest.approx(scores[i], abs=1e-6)


def test_the_same_content_gives_the_same_bytes(contract: Contract, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        storage = FileStorage(tmp_path / name)
        uri = join(file_uri(tmp_path / name), VERSION)
        write_package(storage, uri, _content(contract))
        folder = json.loads(storage.read(join(uri, "MANIFEST.json")))["files"]
        files.append({name: entry["sha256"] for name, entry in folder.items()})
    assert files[0] == files[1]
    assert set(files[0]) == FILES


def test_writing_a_package_again_changes_nothing(contract: Contract, storage: Storage, place: str) -> None:
    write_package(storage, place, content(contract))
    before = sorted((o.name, o.generation, o.landed_at) for o in storage.objects(place))
    write_package(storage, place, content(contract))
    assert sorted((o.name, o.generation, o.landed_at) for o in storage.objects(place)) == before


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_altered_file_is_refused(package: ModelPackage, storage: Storage, name: str) -> None:
    (found,) = (o.uri for o in storage.objects(package.uri) if o.uri.endswith(f"/{name}"))
    path = file_path(found)
    altered = bytearray(path.read_bytes())
    altered[len(altered) // 2] ^= 1
    path.write_bytes(altered)
    with pytest.raises(PackageError, match="not the one that the manifest names"):
        open_package(storage, package.uri)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_refused(package: ModelPackage, storage: Storage, name: str) -> None:
    (found,) = (o.uri for o in storage.objects(package.uri) if o.uri.endswith(f"/{name}"))
    storage.delete(found)
    with pytest.raises(PackageError, match="missing"):
        open_package(storage, package.uri)


def test_a_package_without_its_manifest_is_none(package: ModelPackage, storage: Storage) -> None:
    storage.delete(join(package.uri, "MANIFEST.json"))
    with pytest.raises(NotFound):
        open_package(storage, package.uri)


def test_a_package_at_another_versions_place_is_refused(contract: Contract, storage: Storage, place: str) -> None:
    elsewhere = place.replace(VERSION, "f" * 16)
    with pytest.raises(PackageError, match="says that it is version"):
        write_package(storage, elsewhere, content(contract))


def test_a_candidate_can_be_judged_but_not_served(contract: Contract, storage: Storage, place: str) -> None:
    made = write_package(storage, place, content(contract, whole=False))
    assert open_candidate(storage, place).score(rows()).shape == made.score(rows()).shape
    with pytest.raises(PackageError, match=r"MODEL_CARD\.md, model\.onnx"):
        open_package(storage, place)


def test_calibration_changes_what_both_engines_say(contract: Contract, storage: Storage, place: str) -> None:
    halved = {"method": "isotonic", "x": [0.0, 1.0], "y": [0.0, 0.5]}
    made = write_package(storage, place, content(contract, calibration=halved))
    table = rows(5)
    assert made.score(table) == pytest.approx(made.raw_scores(table) / 2)
    assert made.score_row(table.to_pylist()[0])[0] == pytest.approx(made.score(table)[0], abs=1e-6)


def test_decisions_are_the_contracts_values(package: ModelPackage) -> None:
    assert package.prediction(np.array([0.24, 0.25, 0.9])).to_pylist() == ["no", "yes", "yes"]


@pytest.mark.parametrize(
    ("rate", "typical"),
    [
        ([0.0] * 95 + [0.5] * 5, 0.0),
        ([0.0] * 40 + [0.25] * 30 + [0.5, 0.75, 0.875] * 10, 0.25),
        ([float(value) for value in range(100)], 49.0),
        ([0.5], 0.5),
        ([None], 0.0),
    ],
)
def test_a_typical_number_is_the_median_of_training_whatever_its_bins(
    small_contract: Any, rate: list[float | None], typical: float
) -> None:
    contract = small_contract({"features": {"numeric": ["rate"]}, "never": {}})
    table = pa.table({"rate": pa.array(rate, pa.float64())})
    assert made_up_row(contract, profile(contract, table)) == {"rate": typical}


def test_the_input_example_is_nobodys_row(package: ModelPackage) -> None:
    example = package.input_example
    assert set(example) == set(package.encoder.names)
    assert example not in rows().to_pylist()
    assert package.score_row(example).shape == (1,)


def test_the_card_tells_facts(package: ModelPackage) -> None:
    card = package.card
    for fact in (
        VERSION,
        "fedcba9876543210",
        "0.9000",
        "Fewer than 100 judging rows",
        "known only after the dispute",
    ):
        assert fact in card
    assert "None" not in card


def test_a_package_holds_no_path_and_no_clock(package: ModelPackage, storage: Storage, tmp_path: Path) -> None:
    year = "20"  # any date of today would hold it; the facts given above are of 2020
    for found in storage.objects(package.uri):
        data = file_path(found.uri).read_bytes()
        assert str(tmp_path).encode() not in data
        assert b"2026-" not in data, (found.uri, year)


def test_parity_is_proven_and_not_assumed(contract: Contract) -> None:
    table = rows()
    encoder = Encoder.fit(contract, [table])
    booster = trained(encoder, table)
    matrix = encoder.encode(table)
    model = to_onnx(booster)
    expected = raw_scores(booster, encoder, table)
    assert prove_parity(model, matrix, expected) < 1e-6
    wrong = expected.copy()
    wrong[7] += 0.01
    with pytest.raises(PackageError, match="differ"):
        prove_parity(model, matrix, wrong)


def test_multiclass_and_regression_models_convert(contract: Contract) -> None:
    table = rows()
    encoder = Encoder.fit(contract, [table])
    for objective, more in (("multi:softprob", {"num_class": 3}), ("reg:squarederror", {})):
        booster = trained(encoder, table, objective, **more)
        expected = raw_scores(booster, encoder, table)
        predicted = OnnxModel(to_onnx(booster)).predict(encoder.encode(table))
        assert predicted.shape == expected.shape
        assert np.abs(predicted - expected).max() < 1e-5


def test_a_large_table_is_scored_in_parts_alike(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows(1000)
    whole = package.score(table)
    monkeypatch.setattr("caudal.package.encoder._LARGEST_CHUNK", 7 * 4 * package.encoder.width)
    assert np.array_equal(package.score(table), whole)
    assert package.score(table.slice(0, 0)).shape == (0,)


def test_the_contract_of_the_package_is_the_one_it_was_made_with(
    package: ModelPackage, contract: Contract
) -> None:
    assert package.contract.digest() == contract.digest()
    assert parse_contract(contract.text).model_digest() == package.contract.model_digest()
