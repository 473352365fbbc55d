"""The Cloud Function over real HTTP, served by functions-framework."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

import functions_framework
import pytest
from werkzeug.serving import make_server

from caudal.errors import WarehouseFailed, WarehouseUnavailable
from caudal.warehouse.duckdb import DuckDBWarehouse
from pipeline.runs import begin_run

HEADER = "payment,paid_at,amount,items,rate,channel,abroad,customer,refunded,disputed\n"
ROW = "{},2024-01-01T10:00:00Z,12.50,2,0.5,web,true,Ann,,no\n"


@pytest.fixture
def function_url(repository):
    source = repository / "services" / "ingest_function" / "main.py"
    application = functions_framework.create_app(target="ingest", source=str(source))
    server = make_server("127.0.0.1", 0, application)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def post(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_with_a_budget_for_one_file_the_function_is_called_again_until_it_is_done(desk, function_url):
    at = desk()
    for number in range(3):
        at.land(f"{number}.csv", HEADER + ROW.format(number))
    small = at.environment.ingest.model_copy(update={"budget_bytes": 1})
    environment = at.environment.model_copy(update={"ingest": small})
    run = begin_run(at.storage, at.contract, environment, datetime(2024, 1, 1, tzinfo=UTC))
    body = json.dumps({"config": run.config, "run": run.uri}).encode()

    answers = [post(function_url, body)]
    while not answers[-1][1]["done"]:
        answers.append(post(function_url, body))

    assert [status for status, _ in answers] == [200, 200, 200]
    assert [answer["remaining"] for _, answer in answers] == [2, 1, 0]
    assert sorted(row["payment"] for row in at.lake()) == [0, 1, 2]
    assert at.storage.read_json(run.step_uri("ingest")) == answers[-1][1]


@pytest.mark.parametrize(
    ("error", "expected"), [(WarehouseUnavailable("busy", mend="later"), 503), (WarehouseFailed("broken"), 500)]
)
def test_the_status_says_whether_the_same_call_may_succeed_later(desk, function_url, monkeypatch, error, expected):
    at = desk()
    at.land("a.csv", HEADER + ROW.format(1))
    run = begin_run(at.storage, at.contract, at.environment, datetime(2024, 1, 1, tzinfo=UTC))
    body = json.dumps({"config": run.config, "run": run.uri}).encode()
    with monkeypatch.context() as patched:
        patched.setattr(DuckDBWarehouse, "load", lambda *_: (_ for _ in ()).throw(error))
        status, answer = post(function_url, body)
    assert (status, answer["error"]) == (expected, error.what)
    recorded = at.storage.read_json(run.error_uri("ingest"))
    assert recorded == {"error": str(error), "final": expected == 500}
    assert post(function_url, body)[0] == 200
    assert not at.storage.exists(run.error_uri("ingest"))


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"config": "x"}'])
def test_a_request_that_cannot_be_served_is_answered_with_the_mend(function_url, body):
    status, answer = post(function_url, body)
    assert status == 400
    assert "post" in answer["mend"]


def test_a_configuration_that_is_not_there_is_told_and_does_not_stop_the_server(function_url, tmp_path):
    missing = json.dumps({"config": (tmp_path / "no").as_uri(), "run": (tmp_path / "run").as_uri()}).encode()
    status, answer = post(function_url, missing)
    assert status == 500
    assert "no such file" in answer["error"]
    assert post(function_url, b"")[0] == 400
