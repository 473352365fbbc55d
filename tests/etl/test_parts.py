"""Parts of tables cross a shuffle as they are, or as places in a file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_beam.parts import InlineParts, Parts, SpilledParts, spill_folder, spilling

PAID = datetime(2020, 3, 2, tzinfo=UTC)
Open = Callable[[], Parts]


def rows(*numbers: int) -> pa.Table:
    return pa.table({"number": pa.array(numbers, pa.int64()), "text": [f"row {n}" for n in numbers]})


@pytest.fixture(params=["inline", "spilled"])
def open_parts(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return InlineParts if request.param == "inline" else lambda: SpilledParts(tmp_path / "spill")


def test_what_several_transforms_send_arrives_as_one_table(open_parts: Open) -> None:
    one, other = open_parts(), open_parts()
    sent = [one.send(rows(1, 2))[0], other.send(rows(3))[0], one.send(rows(4, 5))[0]]
    one.close()
    other.close()
    assert open_parts().take(sent).equals(rows(1, 2, 3, 4, 5))


def test_a_column_that_some_parts_lack_is_null_there(open_parts: Open) -> None:
    parts = open_parts()
    sent = [parts.send(rows(1))[0], parts.send(rows(2).drop_columns(["text"]))[0]]
    parts.close()
    assert parts.take(sent)["text"].to_pylist() == ["row 1", None]


def test_a_transform_sends_more_bundles_than_one(open_parts: Open) -> None:
    parts = open_parts()
    first, _ = parts.send(rows(1))
    parts.close()
    second, _ = parts.send(rows(2))
    parts.close()
    assert parts.take([second, first]).equals(rows(2, 1))


def test_a_slice_does_not_send_the_table_that_it_was_cut_from(open_parts: Open) -> None:
    table = rows(*range(100_000))
    _, whole = open_parts().send(table)
    _, cut = open_parts().send(table.slice(50_000, 10))
    assert cut < whole / 100


def test_what_is_spilled_is_not_shuffled(tmp_path: Path) -> None:
    parts = SpilledParts(tmp_path)
    sent, size = parts.send(rows(*range(100_000)))
    parts.close()
    assert len(sent) < 100
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == size > 800_000


def test_a_bundle_that_is_tried_again_is_not_read_twice(tmp_path: Path) -> None:
    failed = SpilledParts(tmp_path)
    failed.send(rows(1, 2))
    again = SpilledParts(tmp_path)
    sent, _ = again.send(rows(1, 2))
    again.close()
    assert again.take([sent]).equals(rows(1, 2))


def test_after_a_run_nothing_is_left_of_what_it_or_a_killed_one_spilled(
    make_world: Any, small_contract: Any
) -> None:
    world = make_world(small_contract())
    folder = spill_folder(world.context())
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / "left").write_bytes(b"by a killed run")
    world.land({"a.csv": [{"payment": 1, "paid_at": PAID, "items": 1}]})
    assert world.run()["rows"]["warehouse"] == 1
    assert not folder.exists()


def test_what_a_run_spilled_goes_when_it_fails(make_world: Any, small_contract: Any) -> None:
    context = make_world(small_contract()).context()
    folder = spill_folder(context)
    assert folder is not None

    def fail() -> None:
        with spilling(context):
            folder.mkdir(parents=True)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folder.exists()


def test_rows_come_out_alike_spilled_and_not(make_world: Any, small_contract: Any) -> None:
    window = {"entity": "customer", "lengths": ["1d"], "values": {"count": "*", "sum": "items"}}
    contract = small_contract({"features.windows": [window]})
    found = []
    for options in ({"shards": 3}, {"shards": 3, "spill": None}):
        world = make_world(contract, **options)
        paid = {"paid_at": PAID, "items": 1}
        world.land({"a.csv": [{"payment": n % 40, "customer": f"c{n % 7}", **paid} for n in range(60)]})
        assert world.run()["rows"]["duplicates"] == 20
        found.append(world.rows("payment", "customer", "customer_count_1d", "customer_sum_items_1d"))
    assert found[0] == found[1]
