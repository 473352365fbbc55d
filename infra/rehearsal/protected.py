"""Which stacks hold what can't be made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATA = ("google_bigquery_table", "google_sql_database_instance")


def holds_data(document: Mapping[str, Any]) -> bool:
    """Whether a synthesized stack holds tables or databases."""
    resources = document.get("resource", {})
    return any(kind in resources for kind in DATA)
