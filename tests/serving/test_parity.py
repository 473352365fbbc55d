"""What a model says over HTTP is what it says offline."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from caudal.contract import Contract
from caudal.package import ModelPackage
from tests.serving.made import Served

# ONNX Runtime and XGBoost sum the trees' float32 leaves in different orders.
TOLERANCE = 1e-6


def test_every_row_of_the_sample_data_set_is_scored_over_http_as_offline(
    bank_server: Served, bank_package: ModelPackage, bank_contract: Contract, all_bank_rows: pa.Table
) -> None:
    names = [bank_contract.key, *(f.name for f in bank_contract.model_features())]
    offline = bank_package.score(all_bank_rows)
    decided = bank_package.prediction(offline).to_pylist()
    scores, decisions, keys = [], [], []
    for start in range(0, all_bank_rows.num_rows, 1000):
        rows = all_bank_rows.select(names).slice(start, 1000).to_pylist()
        answer = bank_server.client.post("/v1/predict/batch", json={"instances": rows})
        assert answer.status_code == 200, answer.text
        for one in answer.json()["predictions"]:
            scores.append(one["score"])
            decisions.append(one["prediction"])
            keys.append(one["key"])
    assert keys == all_bank_rows.column(bank_contract.key).to_pylist()
    assert np.abs(np.array(scores) - offline).max() < TOLERANCE
    close = np.abs(offline - bank_package.threshold) < TOLERANCE
    assert [d for d, c in zip(decisions, close, strict=True) if not c] == [
        d for d, c in zip(decided, close, strict=True) if not c
    ]


def test_a_single_row_and_a_batch_of_it_agree(
    bank_server: Served, bank_package: ModelPackage, bank_contract: Contract, all_bank_rows: pa.Table
) -> None:
    names = [bank_contract.key, *(f.name for f in bank_contract.model_features())]
    offline = bank_package.score(all_bank_rows.slice(0, 40))
    for row, expected in zip(all_bank_rows.select(names).slice(0, 40).to_pylist(), offline, strict=True):
        answer = bank_server.predict(json.loads(json.dumps(row))).json()
        assert abs(answer["score"] - expected) < TOLERANCE
        assert answer["model_version"] == bank_package.version
