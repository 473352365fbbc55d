"""The SQL subset on DuckDB, and its list in the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlglot

from caudal.errors import UnsupportedSql
from caudal.sql import ALLOWED, TYPES, quoted, to_duckdb
from caudal.storage.files import FileStorage, file_uri
from caudal.warehouse import Warehouse
from caudal.warehouse.duckdb import DuckDBWarehouse
from tests.contract_suites.sql import CASES, FIGURES, TYPE_DEPENDENT, SqlSuite


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("sql")
    storage = FileStorage(folder)
    with DuckDBWarehouse(folder / "caudal.duckdb", storage) as warehouse:
        warehouse.ensure_tables([FIGURES])
        SqlSuite.fill(warehouse, storage, file_uri(folder))
        yield warehouse


class TestSqlOnDuckDB(SqlSuite):
    @pytest.mark.parametrize(("query", "because"), TYPE_DEPENDENT)
    def test_what_agrees_only_for_other_types_is_refused(
        self, warehouse: Warehouse, query: str, because: str
    ) -> None:
        with pytest.raises(UnsupportedSql, match=because):
            warehouse.query(f"WITH t AS (SELECT * FROM {FIGURES.sql_name}) {query}")


def test_every_construct_of_the_subset_is_shown_to_work() -> None:
    shown = {
        type(node).__name__ for case in CASES for node in sqlglot.parse_one(case.query, read="bigquery").walk()
    }

    assert ALLOWED - shown == set()


def test_every_type_of_the_subset_is_shown_to_work() -> None:
    cast_to = {name for case in CASES for name in re.findall(r"CAST\(\S+ AS (\w+)\)", case.query)}

    assert set(TYPES.values()) - cast_to == set()


def test_the_docs_list_the_subset_as_the_code_does(repository: Path) -> None:
    page = (repository / "docs" / "sql-subset.md").read_text(encoding="utf-8")
    constructs = page.split("<!-- constructs -->")[1]
    types = page.split("<!-- types -->")[1]

    assert set(re.findall(r"`(\w+)`", constructs)) == ALLOWED
    assert set(re.findall(r"`(\w+)`", types)) == set(TYPES.values())


def test_a_reserved_word_can_be_a_name(warehouse: Warehouse) -> None:
    found = warehouse.query(f"SELECT n AS {quoted('select')} FROM {FIGURES.sql_name} WHERE id = 1")

    assert found.to_pylist() == [{"select": 1}]


@pytest.mark.parametrize("name", ["a`b", "a\\b"])
def test_a_name_that_would_end_its_quotes_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedSql, match="name"):
        quoted(name)


def test_a_list_is_joined_and_not_searched_through() -> None:
    assert "IN (SELECT UNNEST($ids))" in to_duckdb("SELECT id FROM t WHERE id IN UNNEST(@ids)")


def test_what_is_checked_by_type_costs_nothing_when_the_query_runs(warehouse: Warehouse) -> None:
    assert isinstance(warehouse, DuckDBWarehouse)
    translated = to_duckdb(f"SELECT CAST(SAFE_DIVIDE(n, 2) AS INT64) AS a FROM {FIGURES.sql_name}")
    with warehouse._cursor() as cursor:
        plan = str(cursor.execute(f"EXPLAIN {translated}").fetchall())

    assert "typeof" in translated.lower()
    assert "typeof" not in plan.lower()
