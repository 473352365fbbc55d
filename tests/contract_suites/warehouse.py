"""What every warehouse adapter must do."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caudal.errors import CaudalError, CommitConflict, NotFound, TableMismatch, UnsupportedSql
from caudal.sql import quoted
from caudal.storage import Storage, join
from caudal.tables import Table, covered_table
from caudal.warehouse import Commit, Replacement, Warehouse

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

EVERYTHING = Table(
    "lake",
    "everything",
    pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("number", pa.float64()),
            pa.field("money", pa.decimal128(38, 9)),
            pa.field("flag", pa.bool_()),
            pa.field("text", pa.string()),
            pa.field("day", pa.date32()),
            pa.field("at", UTC_MICROSECONDS),
            pa.field("tags", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        ]
    ),
)
"""Every type that a contract's tables use."""

PAYMENTS = Table(
    "warehouse",
    "payments",
    pa.schema(
        [
            pa.field("key", pa.int64(), nullable=False),
            pa.field("day", pa.date32(), nullable=False),
            pa.field("note", pa.string()),
        ]
    ),
    "day",
    ("key",),
)
REFUSED = Table(
    "warehouse",
    "payments_refused",
    pa.schema(
        [pa.field("content", pa.string(), nullable=False), pa.field("at", UTC_MICROSECONDS, nullable=False)]
    ),
    "at",
)
TABLES = (EVERYTHING, PAYMENTS, REFUSED, covered_table())

AS_OF = datetime(2008, 8, 1, tzinfo=UTC)
MAY, JUNE, JULY = date(2008, 5, 1), date(2008, 6, 1), date(2008, 7, 1)

ROWS: list[dict[str, Any]] = [
    {
        "id": 1,
        "number": 0.1,
        "money": Decimal("12345678901234567890123456789.123456789"),
        "flag": True,
        "text": "plain",
        "day": date(2008, 5, 5),
        "at": datetime(2008, 5, 5, 10, 30, 15, 123456, tzinfo=UTC),
        "tags": ["a", "b"],
    },
    {
        "id": -(2**63),
        "number": -1.7976931348623157e308,
        "money": Decimal("-0.000000001"),
        "flag": False,
        "text": 'ünïcödé "quoted", \n two lines \\ 日本',
        "day": date(1, 1, 1),
        "at": datetime(1, 1, 1, tzinfo=UTC),
        "tags": [],
    },
    {
        "id": 2**63 - 1,
        "number": 5e-324,
        "money": Decimal("0.000000000"),
        "flag": None,
        "text": "",
        "day": date(9999, 12, 31),
        "at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "tags": ["", "ü"],
    },
    {"id": 4, "number": None, "money": None, "flag": None, "text": None, "day": None, "at": None, "tags": []},
]

Stage = Callable[..., str]


class WarehouseSuite:
    """Needs the fixtures `warehouse` (its `TABLES` made, empty), `storage` and `folder`, an empty place in it."""

    @pytest.fixture
    def stage(self, storage: Storage, folder: str) -> Stage:
        """Writes rows as Parquet and returns the URI."""
        count = iter(range(1_000_000))

        def write(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> str:
            uri = join(folder, f"staged/{next(count):06d}.parquet")
            with storage.writer(uri) as stream:
                pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), stream)
            return uri

        return write

    @pytest.fixture
    def payments(self, stage: Stage) -> Callable[..., str]:
        """Stages payments given as (key, day, note)."""
        return lambda *rows: stage(
            [{"key": key, "day": day, "note": note} for key, day, note in rows], PAYMENTS.schema
        )

    @pytest.fixture
    def keys(self, stage: Stage) -> Callable[..., str]:
        """Stages keys that go."""
        return lambda *keys: stage([{"key": key} for key in keys], pa.schema([pa.field("key", pa.int64())]))

    @staticmethod
    def held(warehouse: Warehouse) -> list[tuple[int, date, str]]:
        table = warehouse.query(f"SELECT key, day, note FROM {PAYMENTS.sql_name} ORDER BY key, day, note")
        return [tuple(row.values()) for row in table.to_pylist()]

    @staticmethod
    def covered(warehouse: Warehouse) -> list[str]:
        found = warehouse.query("SELECT load_id FROM warehouse._covered ORDER BY load_id")
        return list(found.column("load_id").to_pylist())

    # Loads

    def test_a_load_of_nothing_takes_its_id_and_files_that_come_late_are_not_loaded(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        assert warehouse.load(PAYMENTS, (), "given up").rows == 0

        late = warehouse.load(PAYMENTS, [payments((1, MAY, "late"))], "given up")

        assert (late.rows, late.repeated) == (0, True)
        assert self.held(warehouse) == []

    def test_a_load_of_nothing_under_an_id_that_is_done_says_what_was_loaded(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "in time"))], "done")

        again = warehouse.load(PAYMENTS, (), "done")

        assert (again.rows, again.repeated) == (1, True)
        assert self.held(warehouse) == [(1, MAY, "in time")]

    def test_a_load_brings_every_row_as_it_is(self, warehouse: Warehouse, stage: Stage) -> None:
        warehouse.load(EVERYTHING, [stage(ROWS, EVERYTHING.schema)], "a")

        read = warehouse.query(f"SELECT * FROM {EVERYTHING.sql_name} ORDER BY id")

        assert read.to_pylist() == sorted(ROWS, key=lambda row: row["id"])
        assert [field.type for field in read.schema][:-1] == [field.type for field in EVERYTHING.schema][:-1]
        assert read.schema.field("tags").type.value_type == pa.string()
        assert read.schema.names == EVERYTHING.schema.names

    def test_a_repeated_load_changes_nothing(self, warehouse: Warehouse, payments: Callable[..., str]) -> None:
        files = [payments((1, MAY, "x"), (2, MAY, "y")), payments((3, MAY, "z"))]

        first = warehouse.load(PAYMENTS, files, "a")
        again = warehouse.load(PAYMENTS, files, "a")
        other = warehouse.load(PAYMENTS, [payments((9, MAY, "other rows"))], "a")

        assert (first.rows, first.repeated) == (3, False)
        assert (again.rows, again.repeated) == (3, True)
        assert (other.rows, other.repeated) == (3, True)
        assert [key for key, _, _ in self.held(warehouse)] == [1, 2, 3]

    def test_the_warehouse_tells_whether_a_load_was_done(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        assert warehouse.loaded(PAYMENTS, "a") is None

        warehouse.load(PAYMENTS, [payments((1, MAY, "x"))], "a")

        done = warehouse.loaded(PAYMENTS, "a")
        assert done is not None
        assert (done.rows, done.repeated) == (1, True)
        assert warehouse.loaded(PAYMENTS, "b") is None

    def test_equal_rows_under_another_id_are_other_rows(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        file = payments((1, MAY, "x"))

        warehouse.load(PAYMENTS, [file], "a")
        assert not warehouse.load(PAYMENTS, [file], "b").repeated

        assert len(self.held(warehouse)) == 2

    def test_an_id_belongs_to_its_table(
        self, warehouse: Warehouse, stage: Stage, payments: Callable[..., str]
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "x"))], "a")

        assert warehouse.loaded(EVERYTHING, "a") is None
        assert not warehouse.load(EVERYTHING, [stage(ROWS, EVERYTHING.schema)], "a").repeated

    def test_a_load_of_nothing_is_done_too(self, warehouse: Warehouse, payments: Callable[..., str]) -> None:
        assert warehouse.load(PAYMENTS, [], "none").rows == 0
        assert warehouse.load(PAYMENTS, [payments()], "empty").rows == 0

        assert warehouse.load(PAYMENTS, [], "none").repeated
        assert warehouse.load(PAYMENTS, [payments()], "empty").repeated
        assert self.held(warehouse) == []

    def test_a_load_that_failed_leaves_nothing_and_can_be_tried_again(
        self, warehouse: Warehouse, payments: Callable[..., str], folder: str
    ) -> None:
        good = payments((1, MAY, "x"))
        with pytest.raises(CaudalError):
            warehouse.load(PAYMENTS, [good, join(folder, "staged/not-there.parquet")], "a")

        assert self.held(warehouse) == []
        assert warehouse.loaded(PAYMENTS, "a") is None
        assert warehouse.load(PAYMENTS, [good], "a").rows == 1
        assert len(self.held(warehouse)) == 1

    def test_of_threads_that_load_one_id_one_loads(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        file = payments((1, MAY, "x"))

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda _: warehouse.load(PAYMENTS, [file], "a"), range(4)))

        assert {outcome.rows for outcome in outcomes} == {1}
        assert len(self.held(warehouse)) == 1

    def test_threads_load_side_by_side(self, warehouse: Warehouse, payments: Callable[..., str]) -> None:
        files = [payments((i, MAY, "x")) for i in range(6)]

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda i: warehouse.load(PAYMENTS, [files[i]], f"load {i}"), range(6)))

        assert [key for key, _, _ in self.held(warehouse)] == list(range(6))

    # Reads

    def test_a_read_is_a_stream_in_the_querys_order(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        rows = [(key, MAY, f"note {key}") for key in range(5_000)]
        warehouse.load(PAYMENTS, [payments(*reversed(rows))], "a")

        with warehouse.read(f"SELECT key FROM {PAYMENTS.sql_name} ORDER BY key DESC") as reader:
            keys = [key for batch in reader for key in batch.column("key").to_pylist()]

        assert keys == list(range(4_999, -1, -1))

    def test_a_result_without_rows_has_its_columns(self, warehouse: Warehouse) -> None:
        found = warehouse.query(f"SELECT id, money, `at` FROM {EVERYTHING.sql_name} WHERE FALSE")

        assert found.num_rows == 0
        assert found.schema.names == ["id", "money", "at"]
        assert found.schema.types == [pa.int64(), pa.decimal128(38, 9), UTC_MICROSECONDS]

    @pytest.mark.parametrize("column", ["id", "number", "flag", "text", "day", "at"])
    def test_a_parameter_of_each_type_finds_its_row(self, warehouse: Warehouse, stage: Stage, column: str) -> None:
        warehouse.load(EVERYTHING, [stage(ROWS, EVERYTHING.schema)], "a")

        found = warehouse.query(
            f"SELECT id FROM {EVERYTHING.sql_name} WHERE {quoted(column)} = @wanted", {"wanted": ROWS[0][column]}
        )

        assert found.column("id").to_pylist() == [1]

    @pytest.mark.parametrize("column", ["id", "number", "text", "day", "at"])
    def test_a_list_of_values_finds_its_rows(self, warehouse: Warehouse, stage: Stage, column: str) -> None:
        warehouse.load(EVERYTHING, [stage(ROWS, EVERYTHING.schema)], "a")
        wanted = [ROWS[0][column], ROWS[1][column]]

        found = warehouse.query(
            f"SELECT id FROM {EVERYTHING.sql_name} WHERE {quoted(column)} IN UNNEST(@wanted) ORDER BY id",
            {"wanted": wanted},
        )

        assert found.column("id").to_pylist() == [-(2**63), 1]

    @pytest.mark.parametrize("column", ["id", "text", "day"])
    def test_nothing_is_in_an_empty_list(self, warehouse: Warehouse, stage: Stage, column: str) -> None:
        warehouse.load(EVERYTHING, [stage(ROWS, EVERYTHING.schema)], "a")

        found = warehouse.query(
            f"SELECT COUNT(*) AS n FROM {EVERYTHING.sql_name} WHERE `{column}` IN UNNEST(@wanted)", {"wanted": []}
        )

        assert found.column("n").to_pylist() == [0]

    def test_a_value_is_never_read_as_sql(self, warehouse: Warehouse, stage: Stage) -> None:
        warehouse.load(EVERYTHING, [stage(ROWS, EVERYTHING.schema)], "a")

        query = f"SELECT id FROM {EVERYTHING.sql_name} WHERE text = @wanted"

        assert warehouse.query(query, {"wanted": "x' OR 'a' = 'a"}).num_rows == 0
        assert warehouse.query(query, {"wanted": ROWS[1]["text"]}).num_rows == 1

    def test_streams_hold_every_row_once(self, warehouse: Warehouse, payments: Callable[..., str]) -> None:
        warehouse.load(PAYMENTS, [payments(*((key, MAY, "x") for key in range(3_000)))], "a")

        streams = warehouse.plan_read(f"SELECT key FROM {PAYMENTS.sql_name} WHERE key < @most", {"most": 2_500}, 4)
        travelled = pickle.loads(pickle.dumps(streams))
        keys = [
            key
            for stream in travelled
            for batch in warehouse.read_stream(stream)
            for key in batch.column("key").to_pylist()
        ]

        assert 1 <= len(streams) <= 4
        assert all(isinstance(stream, bytes) for stream in streams)
        assert sorted(keys) == list(range(2_500))

    def test_a_query_outside_the_subset_is_refused(self, warehouse: Warehouse) -> None:
        with pytest.raises(UnsupportedSql, match="ApproxDistinct"):
            warehouse.query(f"SELECT APPROX_COUNT_DISTINCT(key) AS n FROM {PAYMENTS.sql_name}")
        with pytest.raises(UnsupportedSql, match="SELECT"):
            warehouse.query(f"DELETE FROM {PAYMENTS.sql_name} WHERE TRUE")

    def test_a_table_that_is_not_there_is_not_found(self, warehouse: Warehouse) -> None:
        with pytest.raises(NotFound):
            warehouse.query("SELECT x FROM warehouse.nowhere")

    # Exports

    def test_an_export_keeps_the_querys_order_and_types(
        self, warehouse: Warehouse, stage: Stage, storage: Storage, folder: str
    ) -> None:
        warehouse.load(EVERYTHING, [stage(ROWS, EVERYTHING.schema)], "a")

        uris = warehouse.export(
            f"SELECT * EXCEPT (tags) FROM {EVERYTHING.sql_name} WHERE id > @low ORDER BY id DESC",
            join(folder, "export"),
            {"low": 0},
        )

        assert uris == sorted(uris)
        assert all(uri.startswith(join(folder, "export/")) and uri.endswith(".parquet") for uri in uris)
        tables = []
        for uri in uris:
            with storage.open(uri) as stream:
                tables.append(pq.read_table(stream))
        exported = pa.concat_tables(tables)
        assert exported.column("id").to_pylist() == [2**63 - 1, 4, 1]
        assert [row["money"] for row in exported.to_pylist()] == [ROWS[2]["money"], None, ROWS[0]["money"]]
        assert exported.schema.types == EVERYTHING.schema.types[:-1]

    def test_an_export_replaces_what_lay_there(
        self, warehouse: Warehouse, payments: Callable[..., str], storage: Storage, folder: str
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "x"))], "a")
        prefix = join(folder, "export")
        storage.write(join(prefix, "part-99999.parquet"), b"left over from an attempt that died")

        for _ in range(2):
            uris = warehouse.export(f"SELECT key FROM {PAYMENTS.sql_name} ORDER BY key", prefix)

        assert [item.uri for item in storage.objects(prefix)] == uris

    # Commits

    def test_a_commit_replaces_rows_of_its_keys_and_no_others(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "old"), (2, MAY, "kept"), (3, JUNE, "old"))], "a")

        new = payments((1, MAY, "new"), (3, JUNE, "new"), (4, JUNE, "new"))
        made = warehouse.commit(
            Commit("c", "payments", (Replacement(PAYMENTS, (new,), "key", (), (MAY, JUNE)),), ("l1", "l2"), AS_OF)
        )

        assert made
        assert self.held(warehouse) == [
            (1, MAY, "new"),
            (2, MAY, "kept"),
            (3, JUNE, "new"),
            (4, JUNE, "new"),
        ]
        assert self.covered(warehouse) == ["l1", "l2"]

    def test_the_covered_loads_say_which_run_took_them(self, warehouse: Warehouse) -> None:
        warehouse.commit(Commit("c", "payments", (), ("l1", "l2"), AS_OF))

        found = warehouse.query("SELECT load_id, commit_id, as_of FROM warehouse._covered ORDER BY load_id")

        assert found.to_pylist() == [
            {"load_id": load_id, "commit_id": "c", "as_of": AS_OF} for load_id in ("l1", "l2")
        ]

    def test_a_key_moves_to_another_day(self, warehouse: Warehouse, payments: Callable[..., str]) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "old"))], "a")

        new = payments((1, JUNE, "new"))
        warehouse.commit(
            Commit("c", "payments", (Replacement(PAYMENTS, (new,), "key", (), (MAY, JUNE)),), ("l",), AS_OF)
        )

        assert self.held(warehouse) == [(1, JUNE, "new")]

    def test_nothing_outside_the_partitions_is_touched(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "old"), (1, JULY, "elsewhere"))], "a")

        new = payments((1, MAY, "new"))
        warehouse.commit(
            Commit("c", "payments", (Replacement(PAYMENTS, (new,), "key", (), (MAY,)),), ("l",), AS_OF)
        )

        assert self.held(warehouse) == [(1, MAY, "new"), (1, JULY, "elsewhere")]

    def test_removed_keys_go_without_a_successor(
        self, warehouse: Warehouse, payments: Callable[..., str], keys: Callable[..., str]
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "x"), (2, MAY, "x"), (3, MAY, "x"))], "a")

        replacement = Replacement(PAYMENTS, (payments((1, MAY, "new")),), "key", (keys(2), keys(7)), (MAY,))
        warehouse.commit(Commit("c", "payments", (replacement,), ("l",), AS_OF))

        assert self.held(warehouse) == [(1, MAY, "new"), (3, MAY, "x")]

    def test_keys_can_go_without_new_rows(
        self, warehouse: Warehouse, payments: Callable[..., str], keys: Callable[..., str]
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "x"), (2, MAY, "x"))], "a")

        replacement = Replacement(PAYMENTS, (), "key", (keys(1),), (MAY,))
        warehouse.commit(Commit("c", "payments", (replacement,), ("l",), AS_OF))

        assert self.held(warehouse) == [(2, MAY, "x")]

    def test_without_a_key_rows_are_added(
        self, warehouse: Warehouse, stage: Stage, payments: Callable[..., str]
    ) -> None:
        refused = stage([{"content": "bad", "at": datetime(2008, 5, 5, tzinfo=UTC)}], REFUSED.schema)
        for name, after in (("c1", ()), ("c2", ("c1",))):
            warehouse.commit(
                Commit(
                    name,
                    "payments",
                    (
                        Replacement(PAYMENTS, (payments((1, MAY, name)),), "key", (), (MAY,)),
                        Replacement(REFUSED, (refused,)),
                    ),
                    (name,),
                    AS_OF,
                    after,
                )
            )

        assert self.held(warehouse) == [(1, MAY, "c2")]
        assert warehouse.query(f"SELECT content FROM {REFUSED.sql_name}").num_rows == 2

    def test_a_commit_made_twice_changes_nothing(
        self, warehouse: Warehouse, stage: Stage, payments: Callable[..., str]
    ) -> None:
        refused = stage([{"content": "bad", "at": datetime(2008, 5, 5, tzinfo=UTC)}], REFUSED.schema)
        commit = Commit("c", "payments", (Replacement(REFUSED, (refused,)),), ("l",), AS_OF)

        assert warehouse.commit(commit)
        assert not warehouse.commit(commit)
        assert not warehouse.commit(
            Commit(
                "c",
                "payments",
                (Replacement(PAYMENTS, (payments((1, MAY, "x")),), "key", (), (MAY,)),),
                ("l2",),
                AS_OF,
            )
        )

        assert warehouse.query(f"SELECT content FROM {REFUSED.sql_name}").num_rows == 1
        assert self.held(warehouse) == []
        assert self.covered(warehouse) == ["l"]

    def test_a_commit_that_covers_nothing_is_made_once_too(self, warehouse: Warehouse, stage: Stage) -> None:
        refused = stage([{"content": "bad", "at": datetime(2008, 5, 5, tzinfo=UTC)}], REFUSED.schema)
        commit = Commit("c", "payments", (Replacement(REFUSED, (refused,)),), (), AS_OF)

        assert warehouse.commit(commit)
        assert not warehouse.commit(commit)

        assert warehouse.query(f"SELECT content FROM {REFUSED.sql_name}").num_rows == 1

    def test_a_commit_that_fails_changes_nothing_at_all(
        self, warehouse: Warehouse, payments: Callable[..., str], folder: str
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "old"))], "a")
        first = Replacement(PAYMENTS, (payments((1, MAY, "new")),), "key", (), (MAY,))
        broken = Replacement(REFUSED, (join(folder, "staged/not-there.parquet"),))

        with pytest.raises(CaudalError):
            warehouse.commit(Commit("c", "payments", (first, broken), ("l",), AS_OF))

        assert self.held(warehouse) == [(1, MAY, "old")]
        assert self.covered(warehouse) == []
        assert warehouse.commit(Commit("c", "payments", (first,), ("l",), AS_OF))
        assert self.held(warehouse) == [(1, MAY, "new")]

    def test_of_threads_that_make_one_commit_one_makes_it(self, warehouse: Warehouse, stage: Stage) -> None:
        refused = stage([{"content": "bad", "at": datetime(2008, 5, 5, tzinfo=UTC)}], REFUSED.schema)
        commit = Commit("c", "payments", (Replacement(REFUSED, (refused,)),), ("l",), AS_OF)

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: warehouse.commit(commit), range(4)))

        assert sorted(made) == [False, False, False, True]
        assert warehouse.query(f"SELECT content FROM {REFUSED.sql_name}").num_rows == 1
        assert self.covered(warehouse) == ["l"]

    def test_the_same_commit_id_of_another_contract_is_another_commit(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        for number, contract in enumerate(("one", "other")):
            replacement = Replacement(PAYMENTS, (payments((number, MAY, "x")),), "key", (), (MAY,))
            assert warehouse.commit(Commit("c", contract, (replacement,), ("l",), AS_OF))

        assert len(self.held(warehouse)) == 2

    @pytest.mark.parametrize(
        "covered", [("l1", "l2"), ("l2",)], ids=["a load that another has covered", "loads of its own"]
    )
    def test_a_commit_that_comes_after_one_it_does_not_know_of_changes_nothing(
        self, warehouse: Warehouse, stage: Stage, payments: Callable[..., str], covered: tuple[str, ...]
    ) -> None:
        refused = stage([{"content": "bad", "at": datetime(2008, 5, 5, tzinfo=UTC)}], REFUSED.schema)
        newer = Replacement(PAYMENTS, (payments((1, MAY, "newer"), (2, MAY, "newer")),), "key", (), (MAY,))
        warehouse.commit(Commit("b", "payments", (newer, Replacement(REFUSED, (refused,))), ("l1",), AS_OF))

        older = Replacement(PAYMENTS, (payments((1, MAY, "older")),), "key", (), (MAY,))
        late = Commit("a", "payments", (older, Replacement(REFUSED, (refused,))), covered, AS_OF)
        for _ in range(2):
            with pytest.raises(CommitConflict, match="another run") as caught:
                warehouse.commit(late)

        assert "again" in caught.value.mend
        assert self.held(warehouse) == [(1, MAY, "newer"), (2, MAY, "newer")]
        assert warehouse.query(f"SELECT content FROM {REFUSED.sql_name}").num_rows == 1
        assert self.covered(warehouse) == ["l1"]
        # Planned anew, it is made.
        assert warehouse.commit(Commit("c", "payments", (older,), ("l2",), AS_OF, ("b",)))
        assert self.held(warehouse)[0] == (1, MAY, "older")

    def test_a_commit_whose_predecessor_is_gone_changes_nothing(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        replacement = Replacement(PAYMENTS, (payments((1, MAY, "x")),), "key", (), (MAY,))

        with pytest.raises(CommitConflict):
            warehouse.commit(Commit("b", "payments", (replacement,), ("l",), AS_OF, ("a",)))

        assert self.held(warehouse) == []

    def test_a_load_that_a_commit_works_out_anew_is_covered_once_and_as_old_as_it_was(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        for name, note, later, after in (("a", "old", AS_OF, ()), ("b", "anew", AS_OF + timedelta(1), ("a",))):
            replacement = Replacement(PAYMENTS, (payments((1, MAY, note)),), "key", (), (MAY,))
            assert warehouse.commit(Commit(name, "payments", (replacement,), ("l",), later, after))

        found = warehouse.query(f"SELECT load_id, commit_id, as_of FROM {covered_table().sql_name}").to_pylist()
        # It was taken by the run that took it first.
        assert found == [{"load_id": "l", "commit_id": "b", "as_of": AS_OF}]
        assert self.held(warehouse) == [(1, MAY, "anew")]

    def test_of_two_commits_planned_on_the_same_state_one_is_made(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        first = Replacement(PAYMENTS, (payments((0, MAY, "first")),), "key", (), (MAY,))
        warehouse.commit(Commit("first", "payments", (first,), ("l",), AS_OF))
        commits = [
            Commit(
                name,
                "payments",
                (Replacement(PAYMENTS, (payments((1, MAY, name)),), "key", (), (MAY,)),),
                (name,),
                AS_OF,
                ("first",),
            )
            for name in ("a", "b", "c")
        ]

        def made(commit: Commit) -> bool:
            try:
                return warehouse.commit(commit)
            except CaudalError:
                return False

        with ThreadPoolExecutor(3) as pool:
            outcomes = dict(zip("abc", pool.map(made, commits), strict=True))

        [winner] = [name for name, was in outcomes.items() if was]
        assert self.held(warehouse) == [(0, MAY, "first"), (1, MAY, winner)]
        assert self.covered(warehouse) == sorted(["l", winner])

    def test_a_whole_replacement_leaves_nothing_of_its_partitions(
        self, warehouse: Warehouse, stage: Stage, payments: Callable[..., str]
    ) -> None:
        old = payments((1, MAY, "old"), (2, JUNE, "old"), (3, JULY, "old"))
        refused = stage([{"content": "old", "at": datetime(2008, 5, 1, 23, 59, tzinfo=UTC)}], REFUSED.schema)
        warehouse.load(PAYMENTS, [old], "a")
        warehouse.load(REFUSED, [refused], "b")

        whole = Replacement(PAYMENTS, (payments((1, JUNE, "new")),), "key", (), (MAY, JUNE), whole=True)
        warehouse.commit(
            Commit(
                "c", "payments", (whole, Replacement(REFUSED, (), partitions=(MAY,), whole=True)), ("l",), AS_OF
            )
        )

        assert self.held(warehouse) == [(1, JUNE, "new"), (3, JULY, "old")]
        assert warehouse.query(f"SELECT content FROM {REFUSED.sql_name}").num_rows == 0

    def test_a_commit_records_by_what_its_rows_were_made(self, warehouse: Warehouse) -> None:
        warehouse.commit(Commit("c", "payments", (), ("l1",), AS_OF, rows_digests='{"key": "1"}'))

        found = warehouse.query("SELECT load_id, commit_id, rows_digests FROM warehouse._covered").to_pylist()
        assert found == [{"load_id": "l1", "commit_id": "c", "rows_digests": '{"key": "1"}'}]

    # Tables

    def test_tables_that_are_as_they_must_be_are_left_alone(
        self, warehouse: Warehouse, payments: Callable[..., str]
    ) -> None:
        warehouse.load(PAYMENTS, [payments((1, MAY, "x"))], "a")

        warehouse.ensure_tables(TABLES)

        assert len(self.held(warehouse)) == 1

    def test_a_table_with_a_column_of_another_type_is_refused_with_the_mend(self, warehouse: Warehouse) -> None:
        schema = pa.schema([pa.field("key", pa.string(), nullable=False)])

        with pytest.raises(TableMismatch, match="'key'") as caught:
            warehouse.ensure_tables([Table(PAYMENTS.dataset, PAYMENTS.name, schema)])

        assert PAYMENTS.sql_name in caught.value.where
        assert caught.value.mend

    def test_the_connection_can_be_held_open(self, warehouse: Warehouse, payments: Callable[..., str]) -> None:
        with warehouse as held:
            held.load(PAYMENTS, [payments((1, MAY, "x"))], "a")
            with held:
                assert len(self.held(held)) == 1
            assert len(self.held(held)) == 1
