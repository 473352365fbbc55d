"""COUNTIF counts, so it is 0 and never null."""

import duckdb
import pytest

from caudal.sql import to_duckdb


@pytest.mark.parametrize(
    ("values", "count"), [("(NULL)", 0), ("(NULL), (1)", 0), ("(3), (NULL), (4), (2)", 2)], ids=str
)
def test_a_condition_that_is_null_does_not_count(values: str, count: int) -> None:
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE t AS SELECT * FROM (VALUES {values}) AS v(x)")
    query = to_duckdb("SELECT COUNTIF(x > 2) AS n FROM t")
    assert connection.sql(query).fetchall() == [(count,)]
    assert connection.sql(f"{query} WHERE FALSE").fetchall() == [(0,)]


def test_countif_works_over_a_window() -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES (1, 3), (1, 1), (2, NULL)) AS v(g, x)")
    query = to_duckdb("SELECT g, COUNTIF(x > 2) OVER (PARTITION BY g) AS n FROM t")
    assert sorted(connection.sql(query).fetchall()) == [(1, 1), (1, 1), (2, 0)]
