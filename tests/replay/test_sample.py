"""A sample is cut into deliveries without losing a row, and lands as its source would deliver it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal.errors import NotFound, UsageError
from caudal.storage.files import file_path
from pipeline.replay.sample import deliveries, find_sample, land, sample_digest

HEADER = "payment,paid_at,amount\n"


@pytest.fixture
def contract(small_contract):
    return small_contract()


def write(folder, days):
    path = folder / "sample.csv"
    path.write_text(HEADER + "".join(f"{i},{day}T12:00:00Z,1.5\n" for i, day in enumerate(days)))
    return path


@given(days=st.lists(st.dates(date(2023, 1, 1), date(2023, 12, 31)), min_size=1, max_size=60),
       every=st.sampled_from(["month", "week", "day"]))  # fmt: skip
def test_every_row_is_delivered_once_and_in_the_period_that_holds_it(
    tmp_path_factory, small_contract, days, every
):
    contract = small_contract()
    path = write(tmp_path_factory.mktemp("sample"), days)
    found = deliveries(contract, [path], every)

    delivered = [(row["payment"], delivery) for delivery in found for row in delivery.rows.to_pylist()]
    assert sorted(int(key) for key, _ in delivered) == list(range(len(days)))
    for key, delivery in delivered:
        moment = datetime.combine(days[int(key)], datetime.min.time(), UTC)
        assert moment < delivery.as_of <= moment + timedelta(days={"month": 31, "week": 7, "day": 1}[every])
    as_ofs = [delivery.as_of for delivery in found]
    assert as_ofs == sorted(set(as_ofs))


def test_a_period_without_rows_is_delivered_as_nothing(contract, tmp_path, local_storage, local_environment):
    path = write(tmp_path, ["2023-01-10", "2023-03-10"])
    january, february, march = deliveries(contract, [path], "month")
    assert [d.label for d in (january, february, march)] == ["2023-01", "2023-02", "2023-03"]
    assert february.rows.num_rows == 0
    assert land(february, contract, local_storage, local_environment.landing("payments")) is None


def test_a_file_lands_at_the_end_of_its_period_in_the_contracts_dialect(
    small_contract, tmp_path, local_storage, local_environment
):
    contract = small_contract({"source": {"csv": {"delimiter": ";"}}})
    path = tmp_path / "sample.csv"
    path.write_text("payment;paid_at;customer\n1;2023-01-10T12:00:00Z;Ann, Bob\n")
    (delivery,) = deliveries(contract, [path], "month")
    uri = land(delivery, contract, local_storage, local_environment.landing("payments"))
    assert uri is not None
    landed = local_storage.describe(uri)
    assert landed.landed_at == datetime(2023, 2, 1, tzinfo=UTC)
    assert file_path(uri).read_text().splitlines()[1].replace('"', "") == "1;2023-01-10T12:00:00Z;Ann, Bob"


def test_landing_the_same_delivery_twice_is_one_generation(contract, tmp_path, local_storage, local_environment):
    (delivery,) = deliveries(contract, [write(tmp_path, ["2023-01-10"])], "month")
    folder = local_environment.landing("payments")
    first = local_storage.describe(land(delivery, contract, local_storage, folder))
    second = local_storage.describe(land(delivery, contract, local_storage, folder))
    assert first == second


def test_typed_samples_land_as_parquet(contract, tmp_path, local_storage, local_environment):
    path = tmp_path / "sample.parquet"
    rows = pa.table({"payment": [1], "paid_at": [datetime(2023, 1, 10, tzinfo=UTC)]})
    pq.write_table(rows, path)
    (delivery,) = deliveries(contract, [path], "month")
    uri = land(delivery, contract, local_storage, local_environment.landing("payments"))
    assert uri.endswith(".parquet")
    assert pq.read_table(file_path(uri)).column("payment").to_pylist() == [1]


def test_rows_without_an_event_time_are_refused_with_the_contracts_line(contract, tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text(HEADER + "1,2023-01-10T12:00:00Z,1\n2,soon,1\n")
    with pytest.raises(UsageError, match="1 rows have no 'paid_at'"):
        deliveries(contract, [path], "month")


def test_a_contract_without_a_sample_is_told_where_to_put_one(tmp_path):
    with pytest.raises(NotFound, match="--data"):
        find_sample(tmp_path, "payments")


def test_the_digest_of_a_sample_follows_its_content(tmp_path):
    path = write(tmp_path, ["2023-01-10"])
    before = sample_digest([path])
    path.touch()
    assert sample_digest([path]) == before
    write(tmp_path, ["2023-01-11"])
    assert sample_digest([path]) != before
