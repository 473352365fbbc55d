"""TIMESTAMP_ADD and TIMESTAMP_SUB with seconds: as far apart as BigQuery says, whatever the calendar does."""

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from caudal.sql import to_duckdb


# In BigQuery a second is a second, in every zone: https://cloud.google.com/bigquery/docs/reference/standard-sql/timestamp_functions
@pytest.mark.parametrize("zone", ["UTC", "Europe/Lisbon", "America/Bogota"])
@pytest.mark.parametrize("seconds", [0, 1, 86_400, 3_196_800])
def test_seconds_are_added_and_taken_away_exactly(zone: str, seconds: int) -> None:
    # The night before clocks change in Lisbon.
    moment = datetime(2024, 3, 30, 23, 30, 0, 7, tzinfo=UTC)
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{zone}'")
    query = to_duckdb(
        f"SELECT TIMESTAMP_ADD(@t, INTERVAL {seconds} SECOND) AS later, "
        f"TIMESTAMP_SUB(@t, INTERVAL {seconds} SECOND) AS earlier"
    )
    later, earlier = connection.execute(query, {"t": moment}).fetchone() or (None, None)
    assert later == moment + timedelta(seconds=seconds)
    assert earlier == moment - timedelta(seconds=seconds)


def test_a_date_as_a_timestamp_is_its_midnight_in_utc() -> None:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    query = to_duckdb("SELECT CAST(d AS TIMESTAMP) AS t FROM (SELECT CAST('2024-03-31' AS DATE) AS d) AS x")
    [(moment,)] = connection.sql(query).fetchall()
    assert moment == datetime(2024, 3, 31, tzinfo=UTC)
