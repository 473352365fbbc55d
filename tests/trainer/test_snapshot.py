"""Snapshots: which rows, in which order, under which id."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.contract import Contract
from caudal.environment import Environment
from tests.world import World, day, payments
from trainer.snapshot import Snapshot, columns, open_snapshot, rows_digest, take_snapshot

AS_OF = day("2026-02-01")


def take(world: World, as_of: datetime = AS_OF, after: datetime | None = None, attempt: str = "run") -> Snapshot:
    return take_snapshot(
        world.contract,
        world.environment,
        world.storage,
        world.warehouse,
        as_of=as_of,
        attempt=attempt,
        unseen_after=after,
    )


def keys(snapshot: Snapshot) -> list[int]:
    return list(snapshot.part(0, snapshot.rows).table().column("payment").to_pylist())


def test_only_rows_whose_label_is_due_are_in_it(world: World) -> None:
    # Labels are due after seven days; of five rows, one a day from 23 January, three are due on 1 February.
    world.arrive(payments(5, "2026-01-23", days=5), day("2026-01-28"))
    assert keys(take(world)) == [0, 1, 2]
    assert keys(take(world, day("2026-01-31"))) == [0, 1]
    assert keys(take(world, day("2026-01-29"))) == []


def test_a_label_that_is_due_at_the_as_of_itself_counts(world: World) -> None:
    world.arrive(payments(1, "2026-01-25"), AS_OF)
    assert keys(take(world)) == [0]


def test_a_row_that_arrived_after_the_as_of_is_not_in_it(world: World) -> None:
    world.arrive(payments(3, "2026-01-01"), AS_OF)
    world.arrive(payments(3, "2026-01-01", first_key=10), day("2026-02-02"))
    assert sorted(keys(take(world))) == [0, 1, 2]


def test_a_row_without_its_label_is_not_in_it(world: World) -> None:
    world.arrive(payments(3, "2026-01-01", disputed=["yes", None, "no"]), AS_OF)
    assert keys(take(world)) == [0, 2]


def test_nothing_that_is_never_to_be_used_is_in_it(world: World) -> None:
    assert "refunded" not in columns(world.contract)
    world.arrive(payments(3, "2026-01-01"), AS_OF)
    assert "refunded" not in take(world).part(0, 3).table().column_names


def test_rows_lie_in_the_order_of_event_time_and_key(world: World) -> None:
    same = pa.array([np.datetime64("2026-01-01", "us")] * 3 + [np.datetime64("2025-12-31", "us")])
    world.arrive(
        payments(4, "2026-01-01", payment=[9, 3, 5, 7], paid_at=same.cast(pa.timestamp("us", "UTC"))), AS_OF
    )
    assert keys(take(world)) == [7, 3, 5, 9]


def test_another_order_of_arrival_gives_the_same_snapshot(
    small_contract: Any, trainable: Contract, tmp_path: Any, repository: Any
) -> None:
    from caudal.environment import load_environment

    ids = set()
    for name, parts in (("one", [(0, 300)]), ("two", [(200, 300), (0, 120), (120, 200)])):
        local = load_environment(repository / "environments" / "local.yaml", root=tmp_path / name)
        world = World(trainable, local)
        whole = payments(300, "2026-01-01", days=20)
        for start, stop in parts:
            world.arrive({column: values[start:stop] for column, values in whole.items()}, AS_OF)
        ids.add(take(world).id)
    assert len(ids) == 1


def test_taking_it_again_changes_nothing(world: World) -> None:
    world.arrive(payments(50, "2026-01-01", days=20), AS_OF)
    first = take(world)
    before = [(o.name, o.landed_at) for o in world.storage.objects(world.environment.snapshots("payments"))]
    again = take(world, attempt="another run")
    assert (again.id, again.uri) == (first.id, first.uri)
    assert [
        (o.name, o.landed_at) for o in world.storage.objects(world.environment.snapshots("payments"))
    ] == before
    assert not list(world.storage.objects(world.environment.staging("payments", "snapshots")))


def test_a_changed_label_gives_another_snapshot(world: World, local_environment: Environment) -> None:
    world.arrive(payments(50, "2026-01-01", days=20), AS_OF)
    first = take(world)
    world.arrive(payments(1, "2026-01-05", first_key=900), AS_OF)
    assert take(world).id != first.id


def test_with_a_champion_it_holds_the_unseen_rows_and_as_many_as_a_training_uses(world: World) -> None:
    latest = world.contract.model.train_on.latest
    assert latest == 1500
    world.arrive(payments(3000, "2026-01-01", days=20), AS_OF)
    everything = take(world)
    assert everything.rows == 3000
    seen_until = everything.event_times[2799].astype("datetime64[us]").item()
    from datetime import UTC

    limited = take(world, after=seen_until.replace(tzinfo=UTC))
    assert limited.rows == 1500 + 200
    assert keys(limited) == keys(everything)[-1700:]


def test_a_date_counts_from_midnight_in_the_contracts_time_zone(
    small_contract: Any, local_environment: Environment
) -> None:
    contract = small_contract({"columns.paid_at.type": "date"}, time_zone="America/New_York")
    world = World(contract, local_environment)
    days = [date(2026, 1, 24), date(2026, 1, 25)]
    world.arrive(payments(2, "2026-01-01", paid_at=days), AS_OF)
    # Midnight of the 25th in New York is five hours after midnight UTC.
    assert keys(take(world)) == [0]
    assert keys(take(world, AS_OF.replace(hour=5))) == [0, 1]


def test_it_is_read_alike_however_it_is_cut(world: World) -> None:
    world.arrive(payments(100, "2026-01-01", days=20), AS_OF)
    snapshot = take(world)
    part = snapshot.part(13, 77)
    assert [batch.num_rows for batch in part.batches(20)] == [20, 20, 20, 4]
    assert pa.Table.from_batches(part.batches(20)).equals(part.table())
    assert part.part(2, 5).table().equals(part.table().slice(2, 3).combine_chunks())
    assert part.labels.tolist() == [int(v == "yes") for v in part.table().column("disputed").to_pylist()]


def test_large_snapshots_are_streamed_and_say_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.arrive(payments(100, "2026-01-01", days=20), AS_OF)
    whole = take(world)
    monkeypatch.setattr("trainer.snapshot._KEPT_IN_MEMORY", 0)
    streamed = open_snapshot(world.contract, world.storage, whole.uri)
    assert streamed.part(10, 90).table().equals(whole.part(10, 90).table())
    assert [b.num_rows for b in streamed.part(10, 90).batches(30)] == [30, 30, 20]


SCHEMA = pa.schema(
    [("i", pa.int64()), ("t", pa.string()), ("b", pa.bool_()), ("d", pa.decimal128(38, 9)), ("f", pa.float64())]
)
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-5, 5),
        st.none() | st.text(max_size=3),
        st.none() | st.booleans(),
        st.none() | st.integers(-9, 9).map(Decimal),
        st.none() | st.sampled_from([0.0, 1.5, -2.0]),
    ),
    min_size=1,
    max_size=12,
)


def batch_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    arrays = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(SCHEMA)]
    return pa.record_batch(arrays, schema=SCHEMA)


@given(ROWS, st.integers(0, 12))
def test_the_hash_does_not_depend_on_batches(rows: list[tuple[Any, ...]], cut: int) -> None:
    whole = batch_of(rows)
    assert rows_digest(SCHEMA, [whole]) == rows_digest(SCHEMA, [whole.slice(0, cut), whole.slice(cut)])


@given(ROWS, ROWS)
def test_the_hash_tells_rows_apart(one: list[tuple[Any, ...]], two: list[tuple[Any, ...]]) -> None:
    assert (rows_digest(SCHEMA, [batch_of(one)]) == rows_digest(SCHEMA, [batch_of(two)])) == (one == two)


def test_what_lies_under_a_null_does_not_matter() -> None:
    values = pa.array([1, 2, 3], pa.int64())
    hidden = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), values.buffers()[1]])
    schema = pa.schema([("i", pa.int64())])
    plain = pa.array([1, None, 3], pa.int64())
    assert rows_digest(schema, [pa.record_batch([hidden], schema=schema)]) == rows_digest(
        schema, [pa.record_batch([plain], schema=schema)]
    )
