"""Only the contract names a data set's columns, so that a new data set needs a contract and nothing else.

A name that can only be a column (`contact_date`, `poutcome`) may not stand anywhere, not even in a comment. A name
that is also a plain English word (`age`, `default`) may not stand alone as a string, which is how code would name
the column.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from caudal.contract import load_contract
from tests.conftest import REPOSITORY

MAY_NAME_COLUMNS = ("contracts/", "data/", "docs/", "tests/")
ENGLISH = {
    *(
        "age",
        "amount",
        "balance",
        "campaign",
        "contact",
        "default",
        "duration",
        "education",
        "housing",
        "job",
        "loan",
    ),
    *("previous", "y"),
}
OTHER_MEANINGS = {
    ("infra/", "age"): "a bucket's lifecycle condition",
    ("infra/", "default"): "Terraform's own words",
    ("infra/", "duration"): "a threshold's duration in Cloud Monitoring",
    ("infra/", "job"): "a Cloud Run job",
    ("libs/caudal/package/calibration.py", "y"): "the second coordinate",
    ("pipeline/workflow/", "job"): "a Cloud Run job",
    ("services/etl_beam/", "default"): "how pyarrow joins schemas",
    ("services/serving/openapi.py", "default"): "OpenAPI's own word",
}
"""Where such a word stands alone and is no column."""


def columns() -> set[str]:
    """Every column of a shipped data set, and every feature that is derived from one."""
    names: set[str] = set()
    for path in sorted((REPOSITORY / "contracts").glob("*.yaml")):
        contract = load_contract(path)
        names |= set(contract.columns) | {name for w in contract.features.windows for name in w.feature_names()}
    return names


def files() -> list[str]:
    """What the repository holds."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [
        name
        for name in listed.stdout.split("\n")
        if name
        and not name.startswith(MAY_NAME_COLUMNS)
        and "/tests/" not in name
        and (REPOSITORY / name).is_file()
    ]


def named_in(name: str, text: str, wanted: set[str]) -> Iterator[str]:
    """The columns that a file names, with their lines."""
    distinctive = wanted - ENGLISH
    for number, line in enumerate(text.splitlines(), 1):
        for word in distinctive & set(re.findall(r"\w+", line)):
            yield f"{name}:{number}: {word}"
    if name.endswith(".py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and node.value in wanted & ENGLISH and not known(name, node.value):
                yield f"{name}:{node.lineno}: {node.value}"


def known(name: str, word: str) -> bool:
    return any(name.startswith(place) and word == meant for place, meant in OTHER_MEANINGS)


def test_the_english_words_are_columns() -> None:
    assert columns() >= ENGLISH


def test_each_other_meaning_is_still_met() -> None:
    met = {
        (place, word)
        for name in files()
        if name.endswith(".py")
        for node in ast.walk(ast.parse((REPOSITORY / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        for place, word in OTHER_MEANINGS
        if name.startswith(place) and node.value == word
    }

    assert set(OTHER_MEANINGS) - met == set()


def test_no_file_names_a_column_of_a_data_set() -> None:
    wanted = columns()
    found = [
        hit
        for name in files()
        if Path(name).suffix
        in (".py", ".sql", ".yaml", ".yml", ".html", ".md", ".toml", ".json", ".js", ".sh", "")
        for hit in named_in(name, (REPOSITORY / name).read_text(encoding="utf-8", errors="replace"), wanted)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.py", "query = 'SELECT poutcome FROM t'"),
        ("x.py", "# by contact_date"),
        ("x.py", "table.column('age')"),
        ("x.py", "row['balance']"),
        ("x.sql", "SELECT customer_id FROM t"),
        ("x.html", "<td>is_fraud</td>"),
        ("x.yaml", "feature: terminal_id_count_1d"),
    ],
)
def test_a_column_that_is_named_is_found(name: str, text: str) -> None:
    assert list(named_in(name, text, columns()))


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.py", "age = 'the age of a file'"), ("x.md", "the previous job"), ("x.py", "contact_dates = 1")],
)
def test_a_plain_word_is_no_column(name: str, text: str) -> None:
    assert not list(named_in(name, text, columns()))
