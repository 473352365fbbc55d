"""What an answer says: decision, reasons, description; and what is written down about it."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from caudal.backends import open_storage
from caudal.contract import Contract, parse_contract
from caudal.environment import Environment
from caudal.package import Encoder, ModelPackage
from serving import openapi
from serving.instances import Instance
from serving.models import ServedModel, contributions
from serving.prediction_log import PredictionLog
from tests.serving.made import Served, lines, make_model, promote, served


def example(server: Served) -> dict[str, Any]:
    """The example that the server's own description gives."""
    described = server.client.get("/openapi.json").json()
    body = described["paths"]["/v1/predict"]["post"]["requestBody"]
    found: dict[str, Any] = body["content"]["application/json"]["example"]
    return found


def test_the_example_of_the_description_is_answered(bank_server: Served, bank_package: ModelPackage) -> None:
    answer = bank_server.predict(example(bank_server))
    assert answer.status_code == 200
    said = answer.json()
    assert said["model_version"] == bank_package.version
    assert said["arm"] == "champion"
    assert said["flags"] == []
    assert "reasons" not in said
    assert said["prediction"] == ("yes" if said["score"] >= bank_package.threshold else "no")


def test_the_description_has_every_feature_with_its_limits_and_nothing_that_must_not_be_asked(
    bank_server: Served, bank_contract: Contract
) -> None:
    schemas = bank_server.client.get("/openapi.json").json()["components"]["schemas"]
    fields = schemas["Instance"]["properties"]
    features = {feature.name for feature in bank_contract.model_features()}
    assert set(fields) == features | {bank_contract.key, bank_contract.event_time}
    for name in features:
        column = bank_contract.columns[name]
        if column.values is not None:
            assert fields[name]["enum"] == list(column.values)
        if column.range is not None:
            assert (fields[name]["minimum"], fields[name]["maximum"]) == column.range
    assert set(schemas["Instance"]["required"]) == features | {bank_contract.key}
    assert schemas["Prediction"]["properties"]["prediction"]["enum"] == ["no", "yes"]


def test_the_description_names_every_refusal_and_is_made_once_for_a_model(
    bank_server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = bank_server.client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"]
    assert set(answers) == {"200", "408", "413", "422", "429", "431", "500", "503"}
    monkeypatch.setattr(openapi, "describe", lambda *_: pytest.fail("it was made again"))
    assert bank_server.client.get("/openapi.json").status_code == 200


def test_the_description_refers_only_to_what_it_holds(bank_server: Served) -> None:
    described = bank_server.client.get("/openapi.json").json()

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(inner) for inner in value.values()))
        if isinstance(value, list):
            return set().union(*(references(inner) for inner in value))
        return set()

    assert references(described)
    for reference in references(described):
        found = described
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_reasons_add_up_to_the_models_own_margin(bank_package: ModelPackage, all_bank_rows: pa.Table) -> None:
    """Shapley values' efficiency: with the average row's score they give the booster's raw margin."""
    model = ServedModel(bank_package, 100)
    features = [feature.name for feature in bank_package.contract.model_features()]
    rows = all_bank_rows.select(features).slice(0, 200)
    matrix = xgb.DMatrix(
        bank_package.encoder.encode(rows),
        feature_types=bank_package.encoder.column_types(),
        enable_categorical=True,
    )
    margins = bank_package.booster.predict(matrix, output_margin=True)
    told = model.reasons(rows.to_pylist(), len(features))
    sums = np.array([sum(reason["contribution"] for reason in row) for row in told])
    averages = margins - sums
    assert np.ptp(averages) < 1e-4
    for row in told:
        sizes = [abs(reason["contribution"]) for reason in row]
        assert sizes == sorted(sizes, reverse=True)


def test_reasons_speak_of_text_as_one_feature_and_of_a_multiclass_models_own_decision(small_contract: Any) -> None:
    """A text has a column for each bucket; the model here sees nothing but what one word decides."""
    contract = small_contract(
        {
            "features": {"numeric": ["amount"], "text": {"customer": {"hashed": 64}}},
            "columns.disputed.values": ["no", "part", "whole"],
        },
        task="multiclass",
        label={"column": "disputed", "due_after": "7d"},
        gate={"metric": "log_loss", "against_champion": {"at_least": 0}},
    )
    words = ["calm", "angry", "furious"] * 40
    table = pa.table({"amount": pa.array([1.0] * 120, pa.float64()), "customer": words})
    encoder = Encoder.of(contract, {})
    matrix = xgb.DMatrix(encoder.encode(table), np.arange(120) % 3)
    booster = xgb.train({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, matrix, 20)

    (told,) = contributions(booster, encoder, encoder.encode(table.slice(1, 1)), np.array([1]))
    assert told[1] > 0.5
    assert abs(told[0]) < 1e-6


def test_as_many_reasons_are_told_as_are_asked_for(bank_server: Served) -> None:
    row = example(bank_server)
    assert len(bank_server.predict(row, reasons=3).json()["reasons"]) == 3
    told = bank_server.client.post(
        "/v1/predict/batch", json={"instances": [row] * 2}, params={"reasons": 2}
    ).json()
    assert [len(one["reasons"]) for one in told["predictions"]] == [2, 2]


@pytest.mark.parametrize("most", [None, 2])
def test_who_asks_for_reasons_without_a_number_gets_as_many_as_the_contract_says(
    most: int | None,
    bank_contract: Contract,
    local_environment: Environment,
    all_bank_rows: pa.Table,
) -> None:
    contract = parse_contract(bank_contract.text + (f"\nserving: {{reasons: {most}}}\n" if most else ""))
    storage = open_storage(local_environment)
    promote(
        storage, local_environment, make_model(storage, local_environment, contract, all_bank_rows.slice(0, 900))
    )
    with served(contract, local_environment, storage) as server:
        row = example(server)
        for query in ("reasons", "reasons="):
            answer = server.client.post(f"/v1/predict?{query}", json=row)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["reasons"]) == (most or 5)
        batch = server.client.post("/v1/predict/batch?reasons", json={"instances": [row] * 2}).json()
        assert [len(one["reasons"]) for one in batch["predictions"]] == [most or 5] * 2
        assert "reasons" not in server.client.post("/v1/predict", json=row).json()
        for path in server.client.get("/openapi.json").json()["paths"].values():
            for parameter in path.get("post", {}).get("parameters", []):
                assert parameter["allowEmptyValue"]
                assert f"Without a number (`?reasons`) {most or 5}," in parameter["description"]


def test_each_prediction_is_a_line_that_is_there_when_the_answer_comes(
    bank_server: Served, bank_environment: Environment
) -> None:
    row = example(bank_server)
    for key in (11, 12, 13):
        answer = bank_server.predict({**row, "contact_id": key, "contact_date": "2026-03-04"}).json()
        written = lines(bank_environment.serving.prediction_log)[-1]
        assert written["id"] == answer["id"]
        assert written["key"] == str(key)
        assert written["score"] == answer["score"]
        assert written["event_time"] == "2026-03-04T00:00:00+00:00"
        assert written["model_version"] == answer["model_version"]


def test_a_line_holds_no_feature_and_no_personal_key(
    bank_server: Served, bank_environment: Environment, bank_contract: Contract, small_contract: Any, tmp_path: Any
) -> None:
    bank_server.predict(example(bank_server), reasons=5)
    written = lines(bank_environment.serving.prediction_log)[-1]
    assert not {feature.name for feature in bank_contract.model_features()} & set(written)
    personal = small_contract({"columns.payment.personal": True})
    log = PredictionLog(personal, str(tmp_path / "log"))
    instance = Instance(424242, datetime(2026, 1, 1, tzinfo=UTC), {"amount": 77.5}, {})
    line = log.line(instance, "id", 0.5, "yes", "v", "champion")
    log.close()
    assert b"424242" not in line
    assert b"77.5" not in line


def test_a_line_that_was_torn_takes_no_other_along(
    small_contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    instance = Instance(1, datetime(2026, 1, 1, tzinfo=UTC), {}, {})
    # A process was killed in the middle of a line; then the disk was full in the middle of another.
    path.write_bytes(b'{"message": "pred')
    log = PredictionLog(small_contract(), str(path))
    line = log.line(instance, "id", 0.5, "yes", "v", "champion")
    log.write([line])
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < len(line):
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(descriptor, data[:20])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="no space"):
            log.write([line])
    log.write([line, line])
    log.close()
    assert path.read_bytes() == b'{"message": "pred\n' + line + line[:20] + b"\n" + line + line


def test_the_prediction_log_is_only_its_owners(bank_server: Served, bank_environment: Environment) -> None:
    bank_server.predict(example(bank_server))
    assert Path(bank_environment.serving.prediction_log).stat().st_mode & 0o077 == 0


def test_what_is_live_is_told(bank_server: Served, bank_package: ModelPackage) -> None:
    told = bank_server.client.get("/v1/model").json()
    assert told["champion"]["version"] == bank_package.version
    assert told["challenger"] is None
    assert bank_server.client.get("/livez").json() == {"status": "alive"}
    assert bank_server.client.get("/readyz").json()["status"] == "ready"


def test_metrics_count_answers_and_scores(bank_server: Served, bank_package: ModelPackage) -> None:
    served = f'caudal_predictions_total{{arm="champion",model_version="{bank_package.version}"'
    before = bank_server.metric(served)
    bank_server.predict(example(bank_server))
    assert bank_server.metric(served) == before + 1
    bank_server.client.get("/no/such/path/4711")
    text = bank_server.client.get("/metrics").text
    assert "4711" not in text
    assert 'caudal_requests_total{route="other",status="404"}' in text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_method_that_is_not_served_is_405(bank_server: Served, method: str) -> None:
    assert bank_server.client.request(method, "/v1/predict").status_code == 405
