"""Simulated transactions as landed files, clean and dirty."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from data.wallet.dirt import KINDS, Dirt, soil
from data.wallet.files import LandedFile, write_files
from data.wallet.simulator import SCHEMA, Simulation

SIMULATION = Simulation(8_000, seed=3)


def digests(files: list[LandedFile]) -> dict[str, str]:
    return {file.path.name: hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files}


def clean() -> pa.Table:
    return pa.concat_tables(SIMULATION.tables())


def test_a_file_a_day_holds_every_row_once_and_lands_after_its_day(tmp_path: Path) -> None:
    files = list(write_files(SIMULATION, tmp_path))
    assert [file.path.name for file in files][:2] == ["2018-04-01.parquet", "2018-04-02.parquet"]
    assert len(files) == SIMULATION.days
    assert pa.concat_tables(pq.read_table(file.path) for file in files).equals(clean())
    for day, file in enumerate(files):
        landed = datetime(2018, 4, 2, tzinfo=UTC) + timedelta(days=day)
        assert file.landed_at == landed == datetime.fromtimestamp(file.path.stat().st_mtime, UTC)


def test_a_file_a_week_holds_the_same_rows(tmp_path: Path) -> None:
    files = list(write_files(SIMULATION, tmp_path, days_a_file=7))
    assert len(files) == -(-SIMULATION.days // 7)
    assert pa.concat_tables(pq.read_table(file.path) for file in files).equals(clean())


def test_csv_holds_the_same_values(tmp_path: Path) -> None:
    [file, *_] = list(write_files(SIMULATION, tmp_path, "csv", 7))
    types = {field.name: field.type for field in SCHEMA}
    options = pacsv.ConvertOptions(column_types=types)
    expected = pa.concat_tables(SIMULATION.table(day) for day in range(7))
    assert pacsv.read_csv(file.path, convert_options=options).equals(expected.combine_chunks())


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_writing_again_writes_the_same_bytes_and_leaves_nothing_else(tmp_path: Path, format: str) -> None:
    dirt = Dirt.parse("all")
    first = digests(list(write_files(SIMULATION, tmp_path, format, 7, dirt)))  # type: ignore[arg-type]
    again = digests(list(write_files(SIMULATION, tmp_path, format, 7, dirt)))  # type: ignore[arg-type]
    assert first == again
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(first)


def test_the_counts_that_are_reported_are_those_of_the_files(tmp_path: Path) -> None:
    for file in write_files(SIMULATION, tmp_path, days_a_file=30, dirt=Dirt.parse("duplicates=0.05")):
        table = pq.read_table(file.path)
        assert (file.rows, file.frauds) == (table.num_rows, pc.sum(table["is_fraud"]).as_py())
        assert file.size == file.path.stat().st_size


class TestDirt:
    """Each kind of defect, alone."""

    DAY = Simulation(3_000_000, seed=3, days=200).table(0)

    def soiled(self, text: str) -> list[pa.Table]:
        return [delivery.rows for delivery in soil(self.DAY, Dirt.parse(text), seed=1, day=0)]

    def test_nulls_fall_on_every_required_column(self) -> None:
        [table] = self.soiled("nulls=0.02")
        nulls = {name: table[name].null_count for name in table.column_names}
        assert nulls.pop("is_fraud") == 0
        assert min(nulls.values()) > 20
        assert abs(sum(nulls.values()) / table.num_rows - 0.02) < 0.005

    def test_bad_types_turn_the_columns_into_text(self) -> None:
        [table] = self.soiled("types=0.02")
        for name, bad in (("amount", "12.5O"), ("occurred_at", "yesterday"), ("terminal_id", "T17")):
            assert pa.types.is_string(table.schema.field(name).type)
            assert pc.sum(pc.equal(table[name], bad)).as_py() > 20
        assert table["amount"][0].as_py() == str(self.DAY["amount"][0].as_py())

    def test_out_of_range_values_are_out_of_the_contracts_range(self) -> None:
        [table] = self.soiled("range=0.02")
        low, high = pc.less(table["amount"], 0), pc.greater(table["amount"], 100_000)
        assert pc.sum(low).as_py() > 20
        assert pc.sum(high).as_py() > 20
        assert pc.sum(pc.less(table["customer_id"], 0)).as_py() > 20

    def test_duplicates_are_copies_and_changed_copies(self) -> None:
        [table] = self.soiled("duplicates=0.02")
        more = table.num_rows - self.DAY.num_rows
        assert abs(more / self.DAY.num_rows - 0.02) < 0.005
        distinct = table.group_by(table.column_names).aggregate([])
        assert distinct.num_rows == self.DAY.num_rows + more // 2
        assert len(pc.unique(table["transaction_id"])) == self.DAY.num_rows

    def test_late_rows_come_in_another_delivery_and_none_is_lost(self) -> None:
        punctual, late = soil(self.DAY, Dirt.parse("late=0.02"), seed=1, day=0)
        assert 1 <= late.delay <= 21
        assert late.rows.num_rows > 100
        together = pa.concat_tables([punctual.rows, late.rows]).sort_by("transaction_id")
        assert together.equals(self.DAY.sort_by("transaction_id"))

    def test_an_unknown_column_comes_with_some_days(self) -> None:
        days = [soil(self.DAY.slice(0, 5), Dirt.parse("unknown=0.3"), seed=1, day=day) for day in range(100)]
        hit = sum("channel" in delivery.rows.column_names for [delivery] in days)
        assert 15 < hit < 45

    def test_all_is_every_kind(self) -> None:
        assert tuple(d.kind for d in Dirt.parse("all")) == KINDS
        assert {d.share for d in Dirt.parse("all=0.25")} == {0.25}

    @pytest.mark.parametrize("text", ["mud", "nulls=0", "nulls=1", "nulls=x", ""])
    def test_nonsense_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"not one of|between|could not convert"):
            Dirt.parse(text)

    def test_a_days_dirt_does_not_depend_on_other_days_or_kinds(self) -> None:
        [alone] = self.soiled("nulls=0.02")
        [again] = self.soiled("nulls=0.02")
        assert alone.equals(again)
