"""Tables only grow: what a plan may do to them, and what it is refused with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.checks.tables import TablesRefused, problems_of
from pipeline.release.stacks import Stacks

BEFORE = [
    {"name": "id", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "amount", "type": "NUMERIC", "mode": "NULLABLE"},
]


def plan(after: list[dict[str, str]] | None, partition: str | None = "day") -> dict[str, Any]:
    def table(columns: list[dict[str, str]], field: str | None) -> dict[str, Any]:
        partitioning = [{"type": "DAY", "field": field}] if field else []
        return {
            "dataset_id": "lake",
            "table_id": "wallet",
            "schema": json.dumps(columns),
            "time_partitioning": partitioning,
        }

    change = {"before": table(BEFORE, "day"), "after": table(after, partition) if after is not None else None}
    return {"resource_changes": [{"type": "google_bigquery_table", "change": change}]}


def test_the_same_table_is_let_through() -> None:
    assert problems_of(plan(BEFORE)) == []


def test_a_new_optional_column_is_let_through_wherever_it_stands() -> None:
    assert problems_of(plan([{"name": "note", "type": "STRING", "mode": "NULLABLE"}, *BEFORE])) == []


def test_a_column_that_becomes_optional_is_let_through() -> None:
    assert problems_of(plan([{**BEFORE[0], "mode": "NULLABLE"}, BEFORE[1]])) == []


def test_a_new_table_is_let_through() -> None:
    change = {"before": None, "after": {"dataset_id": "lake", "table_id": "new", "schema": json.dumps(BEFORE)}}
    assert problems_of({"resource_changes": [{"type": "google_bigquery_table", "change": change}]}) == []


def test_another_resource_may_go() -> None:
    change = {"before": {"name": "x"}, "after": None}
    assert problems_of({"resource_changes": [{"type": "google_storage_bucket", "change": change}]}) == []


@pytest.mark.parametrize(
    ("after", "what", "mend"),
    [
        (BEFORE[:1], "the column 'amount' would be dropped", "keep 'amount'"),
        (
            [BEFORE[0], {**BEFORE[1], "type": "FLOAT"}],
            "is NUMERIC and would be FLOAT",
            "UPDATE `lake.wallet` SET amount_2 = SAFE_CAST(amount AS FLOAT64)",
        ),
        ([BEFORE[0], {**BEFORE[1], "mode": "REQUIRED"}], "would become REQUIRED", "leave it optional"),
        (
            [*BEFORE, {"name": "note", "type": "STRING", "mode": "REQUIRED"}],
            "the new column 'note' is required",
            "UPDATE `lake.wallet` SET note",
        ),
        (None, "would be deleted with its rows", "keep the contract"),
    ],
)
def test_what_would_lose_or_forbid_rows_is_refused_with_its_backfill(
    after: list[dict[str, str]] | None, what: str, mend: str
) -> None:
    (problem,) = problems_of(plan(after))
    assert problem.where == "lake.wallet"
    assert what in problem.what
    assert mend in problem.mend


def test_another_partitioning_is_refused() -> None:
    (problem,) = problems_of(plan(BEFORE, partition=None))
    assert "from day to none" in problem.what


def test_a_deployment_stops_at_a_plan_that_would_lose_rows(tmp_path: Path) -> None:
    manifest = {"stacks": {"data": {"dependencies": [], "workingDirectory": "stacks/data"}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    shown = json.dumps(plan(BEFORE[:1]))
    stacks = Stacks(tmp_path, lambda command: shown if "show" in command else "")
    with pytest.raises(TablesRefused, match="'amount' would be dropped"):
        stacks.plan()
