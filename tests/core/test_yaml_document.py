"""YAML as people write it: version 1.2's values, and a line for every part."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caudal.yaml_document import MalformedYaml, read_document, write_document

# The core schema of YAML 1.2.2, chapter 10.3.
VALUES = [
    ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("true", True), ("False", False),
    ("null", None), ("~", None), ("", None), ("2008-05-05", "2008-05-05"), ("1:30", "1:30"), ("1_000", "1_000"),
    ("10", 10), ("010", 10), ("-7", -7), ("0o17", 15), ("0x1F", 31), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0),
    ("1e3", 1000.0), ("1e-3", 0.001), ("-1.5E+2", -150.0), (".inf", math.inf), ("-.inf", -math.inf),
    ("14d", "14d"), ("admin.", "admin."), ("'1'", "1"), ('"true"', "true"), ("<<", "<<"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_value_is_what_yaml_1_2_says(text: str, value: object) -> None:
    read = read_document(f"key: {text}\n", "x").values["key"]

    assert read == value
    assert type(read) is type(value)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=50)
@given(st.dictionaries(st.text(min_size=1), values))
def test_what_is_written_reads_back(written: dict[str, Any]) -> None:
    assert read_document(write_document(written), "x").values == written


def test_every_part_knows_its_line() -> None:
    document = read_document("a: 1\nb:\n  c:\n  - x\n  - {d: 2}\n", "file.yaml")

    assert document.where(("a",)) == "file.yaml:1"
    assert document.where(("b", "c", 1)) == "file.yaml:5"
    assert document.where(("b", "c", 1, "d")) == "file.yaml:5"
    assert document.where(("b", "nothing", "deeper")) == "file.yaml:2"
    assert document.where(("nothing",)) == "file.yaml:1"


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "- a list\n", "just text\n", "a: [\n", "a: b: c\n", "\t: x\n"]
)
def test_what_is_no_mapping_is_refused_with_a_mend(text: str) -> None:
    with pytest.raises(MalformedYaml) as caught:
        read_document(text, "file.yaml")

    assert caught.value.problem.where.startswith("file.yaml:")
    assert caught.value.problem.mend
