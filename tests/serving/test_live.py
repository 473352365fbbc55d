"""Promotions, rollbacks and challengers, as a running server meets them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx2
import pyarrow as pa
import pytest

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.package import ModelPackage
from caudal.promotions import Promotions
from caudal.serving_environment import ChallengerTraffic
from caudal.storage import Storage
from caudal.storage.files import file_path
from serving import app, live
from serving.arms import belongs_to_challenger
from serving.live import LiveModels
from serving.telemetry import Telemetry
from tests.serving.made import WHEN, lines, make_model, promote, served, until


def tried(environment: Environment, **traffic: Any) -> Environment:
    """The same, with a challenger's traffic."""
    serving = environment.serving.model_copy(update={"challenger": ChallengerTraffic(**traffic)})
    return environment.model_copy(update={"serving": serving})


@pytest.fixture
def make(
    local_storage: Storage, local_environment: Environment, bank_contract: Contract, all_bank_rows: pa.Table
) -> Callable[[int], ModelPackage]:
    return lambda rounds: make_model(
        local_storage, local_environment, bank_contract, all_bank_rows.slice(0, 3000), rounds=rounds
    )


@pytest.fixture
def row(bank_contract: Contract, all_bank_rows: pa.Table) -> dict[str, Any]:
    names = [bank_contract.key, *(f.name for f in bank_contract.model_features())]
    (first,) = all_bank_rows.select(names).slice(0, 1).to_pylist()
    return dict(first)


def test_before_a_promotion_the_server_is_alive_but_not_ready_and_then_it_is(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    with served(bank_contract, quick, local_storage) as server:
        assert server.client.get("/livez").status_code == 200
        assert server.client.get("/readyz").status_code == 503
        answer = server.predict(row)
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (503, "nothing_live")
        assert server.client.get("/").status_code == 503
        promote(local_storage, quick, make(5))
        assert server.predict(row).status_code == 200
        assert server.client.get("/readyz").status_code == 200


def test_a_promotion_and_a_rollback_are_taken_up_under_load_without_a_failed_request(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    first, second = make(5), make(6)
    promote(local_storage, quick, first)
    ledger = Promotions(local_storage, quick.ledger(bank_contract.name, "promotions"))
    seen: Counter[str] = Counter()
    failed: list[str] = []
    stop = threading.Event()

    def load(url: str) -> None:
        with httpx2.Client(base_url=url, timeout=10) as client:
            while not stop.is_set():
                answer = client.post("/v1/predict", json=row)
                if answer.status_code != 200:
                    failed.append(answer.text)
                else:
                    seen[answer.json()["model_version"]] += 1

    with served(bank_contract, quick, local_storage) as server:
        clients = [threading.Thread(target=load, args=(server.url,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            until(lambda: seen[first.version] > 20)
            promote(local_storage, quick, second)
            until(lambda: seen[second.version] > 20)
            before = seen[first.version]
            ledger.roll_back(as_of=WHEN, by="test", reason="test")
            until(lambda: seen[first.version] > before + 20)
        finally:
            stop.set()
            for client in clients:
                client.join()
        assert failed == []
        assert server.predict(row).json()["model_version"] == first.version
        assert server.metric(f'caudal_model_live{{model_version="{first.version}"') == 1
        assert server.metric(f'caudal_model_live{{model_version="{second.version}"') == 0


def test_a_package_that_is_damaged_leaves_the_old_model_answering_and_is_told(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    good, bad = make(5), make(6)
    promote(local_storage, quick, good)
    with served(bank_contract, quick, local_storage) as server:
        shutil.rmtree(file_path(bad.uri))
        promote(local_storage, quick, bad)
        until(lambda: server.predict(row).status_code == 200 and server.metric("caudal_failures_total") > 0)
        assert server.predict(row).json()["model_version"] == good.version
        assert server.client.get("/readyz").status_code == 200


def test_a_ledger_that_can_not_be_read_stops_nobody(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    promote(local_storage, quick, make(5))
    with served(bank_contract, quick, local_storage) as server:
        (file_path(quick.ledger(bank_contract.name, "promotions")) / "000002.json").write_text("{")
        until(lambda: server.predict(row).status_code == 200 and server.metric("caudal_failures_total") > 0)


class _Hanging:
    """A storage that stops answering when it is told to."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        self.answers.wait()
        return getattr(self._storage, name)


def test_a_ledger_that_hangs_keeps_nobody_waiting_for_long_and_is_asked_once(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    first, second = make(5), make(6)
    promote(local_storage, quick, first)
    # Each request would wait for its look.
    serving = quick.serving.model_copy(update={"wait_after": WHEN - WHEN})
    environment = quick.model_copy(update={"serving": serving})
    storage = _Hanging(local_storage)
    try:
        with served(bank_contract, environment, cast("Storage", storage)) as server:
            assert server.predict(row).json()["model_version"] == first.version
            promote(local_storage, quick, second)
            storage.answers.clear()
            storage.asked = 0
            for path in ("/readyz", "/", "/v1/model"):
                assert server.client.get(path).status_code == 200
            # The first has waited; the look goes on, so the others don't.
            began = time.monotonic()
            for _ in range(20):
                assert server.predict(row).json()["model_version"] == first.version
            assert time.monotonic() - began < live.PATIENCE
            assert storage.asked == 1
            assert server.metric('caudal_failures_total{part="ledger"}') == 1
            storage.answers.set()
            until(lambda: server.predict(row).json()["model_version"] == second.version)
            # A look that hangs for good does not keep the server from ending.
            storage.answers.clear()
            server.client.get("/readyz")
    finally:
        storage.answers.set()


def test_a_server_whose_ledger_has_not_answered_says_so(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(app, "START_PATIENCE", 0.1)
    promote(local_storage, quick, make(5))
    storage = _Hanging(local_storage)
    storage.answers.clear()
    try:
        with served(bank_contract, quick, cast("Storage", storage)) as server:
            answer = server.predict(row)
            assert (answer.status_code, answer.json()["detail"][0]["type"]) == (503, "not_known")
            storage.answers.set()
            until(lambda: server.predict(row).status_code == 200)
    finally:
        storage.answers.set()


def test_a_model_that_can_not_be_loaded_is_not_told_as_none(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    bad = make(6)
    promote(local_storage, quick, bad)
    shutil.rmtree(file_path(bad.uri))
    with served(bank_contract, quick, local_storage) as server:
        answer = server.predict(row)
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (503, "not_loaded")
        assert "could not be loaded" in server.client.get("/readyz").json()["status"]


def test_a_challenger_that_can_not_be_loaded_is_tried_again_ever_later_and_costs_nothing_else(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO", logger="serving")
    champion, challenger = make(5), make(9)
    promote(local_storage, quick, champion)
    promote(local_storage, quick, challenger, role="challenger")
    aside = file_path(challenger.uri).with_name("aside")
    file_path(challenger.uri).rename(aside)
    clock = _Clock()
    tried: list[str] = []
    entries: list[str] = []
    read = type(local_storage).read

    def counted(storage: Storage, uri: str) -> bytes:
        (tried if challenger.version in uri else entries).append(uri)
        return read(storage, uri)

    monkeypatch.setattr(type(local_storage), "read", counted)

    async def scenario() -> None:
        models = LiveModels(bank_contract, quick, local_storage, Telemetry(), clock)

        async def look() -> Any:
            await models.current()
            assert models._task is not None
            await models._task
            return models.live

        await look()
        entries.clear()
        attempts = []
        for _ in range(60):
            clock.now += 1
            before = len(tried)
            await look()
            attempts.append(len(tried) > before)
        assert [i + 1 for i, one in enumerate(attempts) if one] == [5, 15, 35]
        assert entries == []
        aside.rename(file_path(challenger.uri))
        clock.now += 300
        found = await look()
        assert found.challenger.version == challenger.version

    asyncio.run(scenario())
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("took up")]
    assert len(told) == 2


def test_a_shadow_scores_what_the_champion_answers_and_answers_nobody(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    champion, challenger = make(5), make(9)
    environment = tried(quick, share=0.0, shadow=True)
    promote(local_storage, environment, champion)
    promote(local_storage, environment, challenger, role="challenger")
    with served(bank_contract, environment, local_storage) as server:
        answer = server.predict(row).json()
        assert answer["model_version"] == champion.version
        told = lines(environment.serving.prediction_log)
        assert [(one["arm"], one["model_version"]) for one in told] == [
            ("champion", champion.version),
            ("shadow", challenger.version),
        ]
        assert [(one["challenger"], one["share"]) for one in told] == [(challenger.version, 0.0)] * 2
        assert told[0]["score"] != told[1]["score"]
        assert server.client.get("/v1/model").json()["challenger"]["version"] == challenger.version


def test_a_challenger_that_was_dropped_scores_no_longer(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    champion, challenger = make(5), make(9)
    promote(local_storage, quick, champion)
    promote(local_storage, quick, challenger, role="challenger")
    with served(bank_contract, quick, local_storage) as server:
        assert server.client.get("/v1/model").json()["challenger"]["version"] == challenger.version
        promote(local_storage, quick, champion, request="the trial is over")
        until(lambda: server.client.get("/v1/model").json()["challenger"] is None)
        server.predict(row)
        (told,) = lines(quick.serving.prediction_log)
        assert (told["arm"], told["challenger"], told["share"]) == ("champion", None, 0.0)


def test_a_prediction_that_can_not_be_logged_is_not_answered(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    serving = quick.serving.model_copy(update={"prediction_log": str(full)})
    environment = quick.model_copy(update={"serving": serving})
    promote(local_storage, environment, make(5))
    with served(bank_contract, environment, local_storage) as server:
        assert server.predict(row).status_code == 500
        assert server.metric('caudal_failures_total{part="request"}') == 1
        assert server.client.get("/livez").status_code == 200


def test_with_a_share_each_key_is_answered_by_the_same_model_every_time(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    champion, challenger = make(5), make(9)
    environment = tried(quick, share=0.3, shadow=False)
    promote(local_storage, environment, champion)
    promote(local_storage, environment, challenger, role="challenger")
    rows = [{**row, bank_contract.key: key} for key in range(1, 401)]
    with served(bank_contract, environment, local_storage) as server:
        answers = [
            server.client.post("/v1/predict/batch", json={"instances": rows}).json()["predictions"]
            for _ in range(2)
        ]
        single = server.predict(rows[0]).json()
    arms = [[one["arm"] for one in answer] for answer in answers]
    assert arms[0] == arms[1]
    assert [one["key"] for one in answers[0]] == list(range(1, 401))
    assert single["arm"] == arms[0][0]
    assert 0.2 < arms[0].count("challenger") / 400 < 0.4
    told = lines(environment.serving.prediction_log)
    assert {(one["challenger"], one["share"]) for one in told} == {(challenger.version, 0.3)}
    by_arm = {one["arm"]: one["model_version"] for one in answers[0]}
    assert by_arm == {"champion": champion.version, "challenger": challenger.version}


def test_a_challenger_that_can_not_be_loaded_does_not_keep_a_new_champion_away(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any]
) -> None:
    champion, challenger = make(5), make(9)
    promote(local_storage, quick, champion)
    promote(local_storage, quick, challenger, role="challenger")
    shutil.rmtree(file_path(challenger.uri))
    with served(bank_contract, quick, local_storage) as server:
        assert server.predict(row).json()["model_version"] == champion.version


def test_the_split_keeps_to_its_share_grows_with_it_and_differs_from_challenger_to_challenger() -> None:
    keys = range(20_000)
    few = {key for key in keys if belongs_to_challenger("c", "v1", key, 0.1)}
    many = {key for key in keys if belongs_to_challenger("c", "v1", key, 0.5)}
    other = {key for key in keys if belongs_to_challenger("c", "v2", key, 0.1)}
    # Binomial(20000, .1) has a standard deviation of 42: five of them.
    assert abs(len(few) - 2000) < 212
    assert few < many
    # Independent splits share a tenth of a tenth: 200, standard deviation 14.
    assert abs(len(few & other) - 200) < 70
    assert all(belongs_to_challenger("c", "v1", key, 1.0) for key in keys)
    assert not any(belongs_to_challenger("c", "v1", key, 0.0) for key in keys)


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_ledger_is_looked_at_at_most_every_so_often_and_by_requests_alone(
    local_environment: Environment, local_storage: Storage, bank_contract: Contract, make: Any
) -> None:
    first, second, third = make(5), make(6), make(7)
    promote(local_storage, local_environment, first)
    clock = _Clock()
    looks = 0

    async def scenario() -> None:
        nonlocal looks
        models = LiveModels(bank_contract, local_environment, local_storage, Telemetry(), clock)
        read = models._read

        def counted() -> Any:
            nonlocal looks
            looks += 1
            return read()

        models._read = counted  # type: ignore[method-assign]

        async def now() -> str:
            live = await models.current()
            assert live is not None
            return live.champion.version

        assert await now() == first.version
        promote(local_storage, local_environment, second)
        clock.now += 0.9
        assert [await now() for _ in range(50)] == [first.version] * 50
        assert looks == 1
        # The request that finds a look due starts it, and does not wait for it.
        clock.now += 0.2
        assert await now() == first.version
        assert models._task is not None
        await models._task
        assert looks == 2
        assert await now() == second.version
        # After a long sleep a request waits, so that it is not answered by a model that is long gone.
        promote(local_storage, local_environment, third)
        clock.now += 3600
        assert await now() == third.version
        assert looks == 3

    asyncio.run(scenario())


def test_a_look_that_finds_nothing_new_reads_no_entry(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(local_storage, quick, make(5))

    async def scenario() -> None:
        models = LiveModels(bank_contract, quick, local_storage, Telemetry())
        await models.current()
        monkeypatch.setattr(type(local_storage), "read", lambda *_: pytest.fail("an entry was read"))
        for _ in range(3):
            await models.current()
            assert models._task is not None
            await models._task

    asyncio.run(scenario())


def test_a_new_contract_in_a_new_package_changes_what_is_asked_without_a_restart(
    quick: Environment, local_storage: Storage, small_contract: Any
) -> None:
    from tests.world import World, payments

    old = small_contract()
    new = small_contract({"features.boolean": [], "columns.items.required": True})
    world = World(old, quick)
    rows = world.arrive(payments(300, "2026-01-01"), WHEN)
    promote(local_storage, quick, make_model(local_storage, quick, old, rows))
    instance = {"payment": 1, "amount": 3.0, "items": 2, "rate": 0.5, "channel": "web", "abroad": True}
    with served(old, quick, local_storage) as server:
        assert server.predict(instance).status_code == 200
        promote(local_storage, quick, make_model(local_storage, quick, new, rows))
        until(lambda: server.predict(instance).status_code == 422)
        del instance["abroad"]
        assert server.predict(instance).status_code == 200
        del instance["items"]
        problems = server.predict(instance).json()["detail"]
        assert [problem["loc"][-1] for problem in problems] == ["items"]


def test_the_log_of_a_request_that_fails_quotes_nothing(
    quick: Environment, local_storage: Storage, bank_contract: Contract, make: Any, row: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from serving.models import ServedModel
    from serving.telemetry import JsonFormatter

    promote(local_storage, quick, make(5))
    with served(bank_contract, quick, local_storage) as server:

        def breaks(_: Any, rows: Any) -> Any:
            raise ValueError(f"can't score {rows}")

        monkeypatch.setattr(ServedModel, "score", breaks)
        answer = server.predict({**row, "balance": 31415926})
        assert answer.status_code == 500
        assert "31415926" not in answer.text
    told = [JsonFormatter().format(record) for record in caplog.records if record.name == "serving"]
    failure = json.loads(next(one for one in told if "a request failed" in one))
    assert failure["exception"] == "ValueError"
    assert any("breaks" in frame for frame in failure["stack"])
    assert not any("31415926" in one for one in told)


NOT_IN_ITS_IMAGE = (
    "apache_beam", "duckdb", "google.cloud.bigquery", "mlflow", "onnx", "onnxmltools", "optuna", "pandas",
    "rich", "skl2onnx", "sklearn", "sqlglot",
)  # fmt: skip


def test_the_server_answers_with_the_packages_of_its_own_lock_alone(
    repository: Path, local_environment: Environment, local_storage: Storage, make: Any, row: dict[str, Any]
) -> None:
    locked = (repository / "requirements" / "serving.txt").read_text()
    assert not [name for name in NOT_IN_ITS_IMAGE if f"\n{name.replace('.', '-').replace('_', '-')}==" in locked]
    package = make(5)
    script = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {NOT_IN_ITS_IMAGE!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import serving.__main__
from caudal.backends import storage_for
from caudal.package import open_package
from serving.models import ServedModel
model = ServedModel(open_package(storage_for({package.uri!r}), {package.uri!r}), 10)
print(model.score([{row!r}])[0], model.reasons([{row!r}], 1)[0][0]["feature"])
"""
    paths = os.pathsep.join(str(repository / name) for name in ("libs", "services"))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) == pytest.approx(float(package.score_row(row)[0]))
