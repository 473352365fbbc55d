"""Models made to order, and servers around them."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.csv

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.identity import digest
from caudal.labels import encode_labels
from caudal.package import Encoder, ModelPackage, PackageContent, open_package, write_package
from caudal.package.onnx import to_onnx
from caudal.profile import profile
from caudal.promotions import Promotions
from caudal.storage import Storage
from serving.app import create_app
from serving.server import Server, bind

WHEN = datetime(2026, 3, 1, tzinfo=UTC)


def bank_rows(repository: Path, contract: Contract) -> pa.Table:
    """Every row of the sample data set, in the contract's types."""
    path = repository / "data" / "bank_marketing" / "bank_marketing.csv.gz"
    schema = contract.arrow_schema()
    options = pa.csv.ConvertOptions(column_types=schema, strings_can_be_null=True)
    return pa.csv.read_csv(path, convert_options=options)


def make_model(
    storage: Storage, environment: Environment, contract: Contract, rows: pa.Table, *, rounds: int = 20
) -> ModelPackage:
    """A whole package of a small model of these rows."""
    import xgboost as xgb

    encoder = Encoder.fit(contract, [rows])
    matrix = xgb.DMatrix(
        encoder.encode(rows),
        encode_labels(contract, rows),
        feature_types=encoder.column_types(),
        enable_categorical=True,
    )
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 4, "nthread": 1}, matrix, rounds)
    version = digest("test model", contract.name, contract.digest(), rows.num_rows, rounds)[:16]
    span = {"rows": rows.num_rows, "from": "2026-01-01", "until": "2026-02-01"}
    metadata = {
        "version": version,
        "threshold": 0.25,
        "calibration": {"method": "sigmoid", "x": [0.9, -0.1], "y": []},
        "snapshot": "snapshot",
        "unit": "trainer",
        "trained": span,
        "judged": {**span, "version": "candidate", "level": 0.9},
        "metrics": {"all": {}, "slices": {}},
    }
    seen = profile(contract, rows, np.asarray(booster.predict(matrix), dtype=np.float64))
    content = PackageContent(contract, bytes(booster.save_raw("ubj")), to_onnx(booster), encoder, metadata, seen)
    uri = environment.packages(contract.name, "xgboost", version)
    write_package(storage, uri, content)
    return open_package(storage, uri)


def promote(
    storage: Storage,
    environment: Environment,
    package: ModelPackage,
    *,
    role: Any = "champion",
    request: str = "",
    as_of: datetime = WHEN,
) -> None:
    """Makes a package live."""
    Promotions(storage, environment.ledger(package.contract.name, "promotions")).promote(
        version=package.version, model_type="xgboost", package=package.uri, as_of=as_of, by="test",
        reason="test", snapshot="snapshot", role=role, request=request,
    )  # fmt: skip


@dataclass
class Served:
    """A running server and a client of it."""

    url: str
    client: httpx2.Client
    server: Server

    def predict(self, instance: Any, **query: Any) -> httpx2.Response:
        return self.client.post("/v1/predict", json=instance, params=query)

    def metric(self, line: str) -> float:
        """The value of a metric, by the start of its line; 0 when it is not there."""
        for found in self.client.get("/metrics").text.splitlines():
            if found.startswith(line):
                return float(found.rsplit(" ", 1)[1])
        return 0.0


@contextmanager
def served(
    contract: Contract, environment: Environment, storage: Storage, *, idle_seconds: int = 30
) -> Iterator[Served]:
    """A server on a port of its own, in a thread."""
    server = Server(create_app(contract, environment, storage), environment.serving, idle_seconds)
    listening = bind("127.0.0.1", 0)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url, timeout=10) as client:
            yield Served(url, client, server)
    finally:
        server.should_exit = True
        thread.join()
        gc.unfreeze()


def lines(path: str) -> list[dict[str, Any]]:
    """A prediction log's lines."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def until(condition: Callable[[], bool]) -> None:
    """Waits for what a server does beside its requests."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
