"""Contracts with windows: aggregates in the request, or a key whose published state is read."""

from __future__ import annotations

import copy
import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caudal.backends import open_storage, open_warehouse
from caudal.contract import Contract, load_contract, parse_contract
from caudal.entity_state import Publications, entities
from caudal.environment import Environment, load_environment
from caudal.package import Encoder, ModelPackage
from caudal.promotions import Promotions
from caudal.storage.files import file_path
from caudal.tables import warehouse_table
from caudal.yaml_document import read_document, write_document
from data.wallet.files import write_files
from data.wallet.simulator import Simulation
from etl_beam.calendar_features import calendar_features
from pipeline.local_executor import LocalExecutor
from pipeline.runs import begin_run
from serving.instances import InstanceReader
from tests.etl.conftest import World as EtlWorld
from tests.serving.made import lines, make_model, promote, served, until
from tests.world import World

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = START + 60 * DAY
ROWS = 5_000


def transactions(count: int, seed: int = 0) -> dict[str, Any]:
    """Made-up rows of the contract with its derived features; figures of any kind, since no window is computed."""
    generator = np.random.default_rng(seed)
    seconds = np.sort(generator.integers(0, 60 * 86400, count))
    times = [START + timedelta(seconds=int(second)) for second in seconds]
    amount = generator.gamma(2.0, 30.0, count).round(2)
    columns: dict[str, Any] = {
        "transaction_id": (np.arange(count) + 3_000_000_000_000_000_000).tolist(),
        "occurred_at": times,
        "customer_id": generator.integers(0, 40, count).tolist(),
        "terminal_id": generator.integers(0, 15, count).tolist(),
        "amount": amount.tolist(),
        "is_fraud": (amount > 90).tolist(),
        "weekend": [time.weekday() >= 5 for time in times],
        "night": [time.hour <= 6 for time in times],
    }
    for entity, aggregates in (
        ("customer_id", ("count", "mean_amount")),
        ("terminal_id", ("count", "rate_is_fraud")),
    ):
        for length in ("1d", "7d", "30d"):
            for aggregate in aggregates:
                values = generator.gamma(2.0, 3.0, count)
                empty = generator.random(count) < 0.1
                columns[f"{entity}_{aggregate}_{length}"] = [
                    None if none and aggregate != "count" else float(value)
                    for value, none in zip(values, empty, strict=True)
                ]
    return columns


@pytest.fixture(scope="session")
def wallet(repository: Any) -> Contract:
    return load_contract(repository / "contracts" / "wallet.yaml")


@pytest.fixture
def world(wallet: Contract, quick: Environment) -> World:
    return World(wallet, quick)


@pytest.fixture
def rows(world: World) -> pa.Table:
    return world.arrive(transactions(600), AS_OF)


@pytest.fixture
def package(world: World, rows: pa.Table) -> ModelPackage:
    made = make_model(world.storage, world.environment, world.contract, rows)
    promote(world.storage, world.environment, made)
    return made


@pytest.fixture(scope="module")
def simulated(
    wallet: Contract, repository: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Environment, pa.Table]:
    """The warehouse's rows after simulated files have gone through ingest and ETL, and where they are."""
    environment = load_environment(repository / "environments" / "local.yaml", tmp_path_factory.mktemp("wallet"))
    landing = file_path(environment.landing(wallet.name))
    # Windows reach back 37 days.
    simulation = Simulation(ROWS, seed=3, days=60)
    files = list(write_files(simulation, landing, days_a_file=7))
    run = begin_run(open_storage(environment), wallet, environment, files[-1].landed_at, reason="test")
    for step in ("ingest", "etl"):
        LocalExecutor().execute_step(run, step)
    table = warehouse_table(wallet)
    with open_warehouse(environment) as warehouse:
        rows = warehouse.query(f"SELECT * FROM {table.sql_name} ORDER BY occurred_at, transaction_id")
    assert rows.num_rows == sum(file.rows for file in files)
    return environment, rows


def derived(contract: Contract) -> list[str]:
    return [name for window in contract.features.windows for name in window.feature_names()]


def requests(contract: Contract, rows: pa.Table, names: list[str]) -> list[dict[str, Any]]:
    wanted = rows.select([contract.key, contract.event_time, *contract.features.numeric, *names]).to_pylist()
    return [
        {**row, "occurred_at": row["occurred_at"].isoformat(), "amount": float(row["amount"])} for row in wanted
    ]


def test_rows_with_their_aggregates_are_scored_over_http_as_offline(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    instances = requests(world.contract, rows, derived(world.contract))
    with served(world.contract, world.environment, world.storage) as server:
        answer = server.client.post("/v1/predict/batch", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    made = answer.json()["predictions"]
    assert np.abs(np.array([one["score"] for one in made]) - package.score(rows)).max() < 1e-6
    assert [one["key"] for one in made] == rows.column("transaction_id").to_pylist()
    assert all(one["state"] == {} for one in made)


def test_every_row_that_etl_made_is_scored_over_http_as_offline(
    wallet: Contract, simulated: tuple[Environment, pa.Table]
) -> None:
    environment, rows = simulated
    storage = open_storage(environment)
    package = make_model(storage, environment, wallet, rows)
    promote(storage, environment, package)
    offline = package.score(rows)
    # Windows with something in them, and scores that differ from row to row.
    assert rows.num_rows > 0.8 * ROWS
    assert [name for name in derived(wallet) if len(rows.column(name).unique()) < 2] == []
    assert len(np.unique(offline)) > 100
    instances = requests(wallet, rows, derived(wallet))
    online: list[float] = []
    with served(wallet, environment, storage) as server:
        for start in range(0, len(instances), 1000):
            answer = server.client.post("/v1/predict/batch", json={"instances": instances[start : start + 1000]})
            assert answer.status_code == 200, answer.text
            made = answer.json()["predictions"]
            assert [one["key"] for one in made] == [
                one["transaction_id"] for one in instances[start : start + 1000]
            ]
            online += [one["score"] for one in made]
    assert np.abs(np.array(online) - offline).max() < 1e-6


@pytest.mark.parametrize(
    ("zone", "hours"), [("UTC", [0, 6]), ("Europe/Lisbon", [22, 5]), ("Asia/Kolkata", [3, 3])]
)
def test_calendar_features_are_those_of_etl(small_contract: Any, zone: str, hours: list[int]) -> None:
    contract = small_contract(
        {"features.calendar": ["weekend", "night"], "features.night_hours": hours}, time_zone=zone
    )
    reader = InstanceReader(contract, Encoder.of(contract, {"channel": []}), {}, batch=10)
    moments = [datetime(2026, 3, 27, tzinfo=UTC) + timedelta(minutes=17 * i) for i in range(500)]
    times = pa.chunked_array([pa.array(moments, pa.timestamp("us", tz="UTC"))])
    offline = {name: column.to_pylist() for name, column in calendar_features(contract, times).items()}
    rows = [reader.one(f'{{"payment":1,"paid_at":"{moment.isoformat()}"}}'.encode()).row for moment in moments]
    assert {name: [row[name] for row in rows] for name in offline} == offline
    assert {True, False} == set(offline["weekend"]) == set(offline["night"])


def test_a_key_stands_for_the_features_of_its_entitys_latest_row(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    contract = world.contract
    Publications(world.storage, world.environment, contract).publish(world.warehouse, "commit-1", AS_OF)
    latest: dict[tuple[str, int], dict[str, Any]] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: (row["occurred_at"], row["transaction_id"])):
        for entity in ("customer_id", "terminal_id"):
            latest[entity, row[entity]] = row
    moment = AS_OF + DAY
    instance = {
        "transaction_id": 1,
        "occurred_at": moment.isoformat(),
        "amount": 20.5,
        "entities": {"customer_id": 3, "terminal_id": 7},
    }
    customer, terminal = latest["customer_id", 3], latest["terminal_id", 7]
    whole = {
        "transaction_id": 1,
        "occurred_at": moment.isoformat(),
        "amount": 20.5,
        **{name: customer[name] for name in derived(contract) if name.startswith("customer_id")},
        **{name: terminal[name] for name in derived(contract) if name.startswith("terminal_id")},
    }
    with served(contract, world.environment, world.storage) as server:
        looked_up, said = server.predict(instance).json(), server.predict(whole).json()
        told = lines(world.environment.serving.prediction_log)[-1]
    assert looked_up["score"] == said["score"]
    assert looked_up["flags"] == []
    for entity, row in (("customer_id", customer), ("terminal_id", terminal)):
        state = looked_up["state"][entity]
        assert datetime.fromisoformat(state["as_of"]) == row["occurred_at"]
        assert state["age_seconds"] == (moment - row["occurred_at"]).total_seconds()
    assert said["state"] == {}
    assert not {"entities", "customer_id"} & set(told)


def test_what_the_request_says_itself_goes_before_the_published_state(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    contract = world.contract
    Publications(world.storage, world.environment, contract).publish(world.warehouse, "commit-1", AS_OF)
    whole = next(
        row
        for row in requests(contract, rows, derived(contract))
        if all(row[name] is not None for name in derived(contract))
    )
    keys = {"entities": {"customer_id": 3, "terminal_id": 7}}
    looked_up = {name: value for name, value in whole.items() if name not in derived(contract)} | keys
    with served(contract, world.environment, world.storage) as server:
        alone, both, other = (server.predict(row).json() for row in (whole, whole | keys, looked_up))
    assert both["score"] == alone["score"] != other["score"]
    assert both["state"] == {}


def test_an_entity_of_which_nothing_is_known_is_flagged_and_a_request_without_any_is_refused(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    instance = {"transaction_id": 1, "amount": 20.5, "entities": {"customer_id": 4_000_000, "terminal_id": 0}}
    with served(world.contract, world.environment, world.storage) as server:
        # Nothing was published yet.
        answer = server.predict(instance).json()
        assert {(flag["field"], flag["flag"]) for flag in answer["flags"]} == {
            ("customer_id", "no_state"),
            ("terminal_id", "no_state"),
        }
        Publications(world.storage, world.environment, world.contract).publish(world.warehouse, "c", AS_OF)
        until(lambda: server.predict(instance).json()["state"]["terminal_id"]["as_of"] is not None)
        answer = server.predict(instance).json()
        assert answer["flags"] == [{"field": "customer_id", "flag": "no_state"}]
        assert answer["state"]["customer_id"] == {"as_of": None, "age_seconds": None}
        del instance["entities"]["customer_id"]  # type: ignore[attr-defined]
        refused = server.predict(instance)
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["body", "entities", "customer_id"]


def test_a_batch_with_one_row_that_says_neither_is_refused_before_any_is_scored(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    whole = {"amount": 20.5, "entities": {"customer_id": 1, "terminal_id": 0}}
    instances = [{"transaction_id": i, **whole} for i in range(200)]
    instances[150]["entities"] = {"customer_id": 1}
    with served(world.contract, world.environment, world.storage) as server:
        refused = server.client.post("/v1/predict/batch", json={"instances": instances})
        assert refused.status_code == 422
        assert [one["loc"] for one in refused.json()["detail"]] == [
            ["body", "instances", 150, "entities", "terminal_id"]
        ]
        assert lines(world.environment.serving.prediction_log) == []
        instances[150].update(whole)
        made = server.client.post("/v1/predict/batch", json={"instances": instances}).json()["predictions"]
        assert [one["key"] for one in made] == list(range(200))


def test_a_state_that_is_older_than_the_contract_allows_is_flagged(
    wallet: Contract,
    quick: Environment,
) -> None:
    contract = parse_contract(wallet.text + "\nserving: {state_within: 2d}\n")
    world = World(contract, quick)
    rows = world.arrive(transactions(300), AS_OF)
    promote(world.storage, quick, make_model(world.storage, quick, contract, rows))
    Publications(world.storage, quick, contract).publish(world.warehouse, "c", AS_OF)
    latest = max(row["occurred_at"] for row in rows.to_pylist() if row["customer_id"] == 5)
    both = {"customer_id": 5, "terminal_id": 1}
    with served(contract, quick, world.storage) as server:
        for age, expected in ((timedelta(hours=47), set()), (timedelta(hours=49), {"customer_id"})):
            moment = (latest + age).isoformat()
            row = {"transaction_id": 1, "amount": 2.0, "occurred_at": moment, "entities": both}
            flags = server.predict(row).json()["flags"]
            assert {f["field"] for f in flags if f["flag"] == "stale_state"} & {"customer_id"} == expected


def edited(contract: Contract) -> Contract:
    """The contract without windows over terminals, and with fewer over customers."""
    values: Any = copy.deepcopy(read_document(contract.text, "wallet").values)
    values["features"]["windows"] = [{"entity": "customer_id", "lengths": ["1d"], "values": {"count": "*"}}]
    del values["features"]["ratios"]
    return parse_contract(write_document(values))


def test_an_edit_of_the_windows_blocks_no_model_and_what_is_no_longer_published_is_flagged(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    """The newest publication follows the edited contract; the live model's still wants the old entities."""
    old, new = world.contract, edited(world.contract)
    ledger = Promotions(world.storage, world.environment.ledger(old.name, "promotions"))
    instance = {"transaction_id": 1, "amount": 20.5, "entities": {"customer_id": 3, "terminal_id": 7}}
    lost = [{"field": name, "flag": "no_state"} for name in ("customer_id", "terminal_id")]
    Publications(world.storage, world.environment, old).publish(world.warehouse, "old", AS_OF)
    with served(new, world.environment, world.storage) as running:
        assert running.predict(instance).json()["flags"] == []
        Publications(world.storage, world.environment, new).publish(world.warehouse, "new", AS_OF)
        until(lambda: running.predict(instance).json()["flags"] == lost)
        told = running.predict(instance).json()["state"]
        assert told["customer_id"]["as_of"] is not None
        assert told["terminal_id"] == {"as_of": None, "age_seconds": None}
        with served(new, world.environment, world.storage) as fresh:
            assert fresh.predict(instance).json()["flags"] == lost
        # A model of the new contract, and the way back.
        later = make_model(world.storage, world.environment, new, rows)
        promote(world.storage, world.environment, later)
        few = {"transaction_id": 1, "amount": 20.5, "entities": {"customer_id": 3}}
        until(lambda: running.client.get("/v1/model").json()["champion"]["version"] == later.version)
        assert running.predict(few).json()["flags"] == []
        ledger.roll_back(as_of=AS_OF, by="test", reason="test")
        until(lambda: running.client.get("/v1/model").json()["champion"]["version"] == package.version)
        assert running.predict(instance).status_code == 200


def test_a_publication_that_can_not_be_read_is_told_and_blocks_no_model(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    publications = Publications(world.storage, world.environment, world.contract)
    broken = publications.publish(world.warehouse, "broken", AS_OF)
    assert broken is not None
    shutil.rmtree(file_path(broken))
    instance = {"transaction_id": 1, "amount": 20.5, "entities": {"customer_id": 3, "terminal_id": 7}}
    with served(world.contract, world.environment, world.storage) as server:
        assert [flag["flag"] for flag in server.predict(instance).json()["flags"]] == ["no_state"] * 2
        later = make_model(world.storage, world.environment, world.contract, rows, rounds=7)
        promote(world.storage, world.environment, later)
        until(lambda: server.predict(instance).json()["model_version"] == later.version)
        # Not at each look: that it is tried again is a matter of seconds.
        assert server.metric('caudal_failures_total{part="states"}') == 1
        publications.publish(world.warehouse, "good", AS_OF)
        until(lambda: server.predict(instance).json()["flags"] == [])


def test_publishing_again_changes_nothing_and_a_later_commit_is_taken_up(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    publications = Publications(world.storage, world.environment, world.contract)
    first = publications.publish(world.warehouse, "commit-1", AS_OF)
    assert publications.publish(world.warehouse, "commit-1", AS_OF) == first
    assert len(publications) == 1
    instance = {"transaction_id": 1, "amount": 20.5, "entities": {"customer_id": 3, "terminal_id": 7}}
    with served(world.contract, world.environment, world.storage) as server:
        before = server.predict(instance).json()["state"]["customer_id"]["as_of"]
        later = transactions(50, seed=1)
        later["transaction_id"] = list(range(1, 51))
        later["customer_id"] = [3] * 50
        later["occurred_at"] = [AS_OF + timedelta(minutes=i) for i in range(50)]
        world.arrive(later, AS_OF + DAY)
        publications.publish(world.warehouse, "commit-2", AS_OF + DAY)
        until(lambda: server.predict(instance).json()["state"]["customer_id"]["as_of"] != before)
        assert len(publications) == 2


def test_publishing_reads_no_more_of_the_log_than_what_came_since(
    world: World, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    publications = Publications(world.storage, world.environment, world.contract)
    for number in range(4):
        publications.publish(world.warehouse, f"commit-{number}", AS_OF)
    log = world.environment.states(world.contract.name, "log")
    asked: list[str] = []
    monkeypatch.setattr(
        type(world.storage),
        "read_all",
        lambda storage, uris: asked.extend(uris) or [storage.read(uri) for uri in uris],
    )

    publications.publish(world.warehouse, "commit-4", AS_OF)
    assert asked == []
    # Repeated, as a step is that was killed after it: its entry is found among those after its folder.
    publications.publish(world.warehouse, "commit-3", AS_OF)
    assert asked == [f"{log}/000004.json", f"{log}/000005.json"]
    assert len(publications) == 5


def test_a_publication_that_was_killed_before_its_entry_is_entered_by_the_next_attempt(
    world: World, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    publications = Publications(world.storage, world.environment, world.contract)
    with monkeypatch.context() as patched:
        patched.setattr(
            "caudal.entity_state.Log.append", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            publications.publish(world.warehouse, "commit-1", AS_OF)
    publications.publish(world.warehouse, "commit-2", AS_OF)
    uri = publications.publish(world.warehouse, "commit-1", AS_OF)

    assert len(publications) == 2
    newest = publications.newest()
    assert newest is not None
    assert newest.uri == uri


def test_an_entity_without_a_row_within_reach_of_a_window_is_not_published(
    world: World, rows: pa.Table, package: ModelPackage
) -> None:
    """30 days and a delay of 7 are the longest reach here."""
    publications = Publications(world.storage, world.environment, world.contract)
    publications.publish(world.warehouse, "later", AS_OF + 20 * DAY)
    newest = publications.newest()
    assert newest is not None
    published = newest.table("customer_id")
    recent = {row["customer_id"] for row in rows.to_pylist() if row["occurred_at"] >= AS_OF + 20 * DAY - 38 * DAY}
    assert set(published.column("key").to_pylist()) == recent
    assert published.column("key").to_pylist() == sorted(recent)


def test_a_contract_without_windows_publishes_nothing(
    bank_contract: Contract, local_environment: Environment
) -> None:
    storage = open_storage(local_environment)
    publications = Publications(storage, local_environment, bank_contract)
    assert publications.publish(None, "c", AS_OF) is None  # type: ignore[arg-type]
    assert len(publications) == 0


def test_a_row_of_the_future_is_nobodys_published_state(world: World, rows: pa.Table) -> None:
    early = transactions(3, seed=1)
    early["transaction_id"] = [1, 2, 3]
    early["customer_id"] = [3, 3, 8_000_000]
    early["occurred_at"] = [AS_OF, AS_OF + timedelta(microseconds=1), datetime(2150, 1, 1, tzinfo=UTC)]
    world.arrive(early, AS_OF)
    publications = Publications(world.storage, world.environment, world.contract)
    publications.publish(world.warehouse, "c", AS_OF)
    newest = publications.newest()
    assert newest is not None
    published = {row["key"]: row["as_of"] for row in newest.table("customer_id").to_pylist()}
    assert published[3] == AS_OF
    assert 8_000_000 not in published


def test_etl_publishes_after_each_commit_what_its_own_rows_say(
    wallet: Contract, local_environment: Environment
) -> None:
    world = EtlWorld(wallet, local_environment, moment=AS_OF)
    generator = np.random.default_rng(3)
    landed = [
        {
            "transaction_id": number,
            "occurred_at": AS_OF - timedelta(hours=float(generator.uniform(1, 600))),
            "customer_id": int(generator.integers(0, 5)),
            "terminal_id": int(generator.integers(0, 3)),
            "amount": Decimal(int(generator.integers(100, 9000))) / 100,
            "is_fraud": bool(generator.random() < 0.3),
        }
        for number in range(80)
    ]
    world.land({"a.parquet": landed[:50]})
    world.run()
    world.land({"b.parquet": landed[50:]})
    world.run()
    storage = open_storage(local_environment)
    publications = Publications(storage, local_environment, wallet)
    assert len(publications) == 2
    newest = publications.newest()
    assert newest is not None
    rows = sorted(world.rows(), key=lambda row: (row["occurred_at"], row["transaction_id"]))
    for entity, names in entities(wallet).items():
        latest = {row[entity]: {"as_of": row["occurred_at"], **{n: row[n] for n in names}} for row in rows}
        published = {row.pop("key"): row for row in newest.table(entity).to_pylist()}
        assert published == latest
        assert any(row[names[0]] for row in latest.values())
    # A run that brings nothing publishes nothing.
    world.run()
    assert len(publications) == 2
