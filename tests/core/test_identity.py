"""An identity is a hash of what a thing is made from, and of nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caudal import identity
from caudal.errors import NotFound
from caudal.identity import (
    digest,
    floor_to,
    format_instant,
    load_id,
    manifest_id,
    model_version,
    parse_instant,
    run_id,
    unit_digest,
)

names = st.text(min_size=1)
instants = st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1))  # noqa: DTZ001


def test_a_digest_is_the_hash_of_canonical_json() -> None:
    assert digest("a", 1, {"y": None, "x": [True]}) == hashlib.sha256(b'["a",1,{"x":[true],"y":null}]').hexdigest()


@pytest.mark.parametrize("part", [{1, 2}, object(), float("nan"), datetime(2008, 5, 5, tzinfo=UTC), b"bytes"])
def test_what_has_no_one_text_has_no_digest(part: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest(part)


@given(names, names, names)
def test_a_load_is_its_bucket_object_and_generation(bucket: str, name: str, generation: str) -> None:
    same = load_id(bucket, name, generation)

    assert load_id(bucket, name, generation) == same
    assert len({same, load_id(bucket + "x", name, generation), load_id(bucket, name + "x", generation)}) == 3
    assert load_id(bucket, name, generation + "x") != same
    assert load_id(bucket + name, "", generation) != same


@given(st.lists(names, unique=True), st.randoms(use_true_random=False))
def test_a_manifest_does_not_depend_on_the_order_of_its_loads(loads: list[str], chance: object) -> None:
    mixed = list(loads)
    chance.shuffle(mixed)  # type: ignore[attr-defined]

    assert manifest_id(mixed) == manifest_id(loads)
    assert manifest_id([*loads, "one more"]) != manifest_id(loads)


def test_each_part_of_a_model_version_counts() -> None:
    parts = ["snapshot", "contract", "unit", "part"]
    versions = {model_version(*parts)} | {
        model_version(*(f"{part}!" if i == j else part for j, part in enumerate(parts))) for i in range(4)
    }

    assert len(versions) == 5


def test_a_run_is_named_by_its_instant_and_its_request() -> None:
    as_of = datetime(2008, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))

    assert run_id(as_of) == "20080601T100000Z"
    assert run_id(as_of, "again").startswith("20080601T100000Z-")
    assert run_id(as_of, "again") != run_id(as_of, "and again")


@given(instants, instants)
def test_instants_as_text_sort_by_time_and_read_back(one: datetime, other: datetime) -> None:
    assert parse_instant(format_instant(one)) == one
    if one.microsecond == other.microsecond == 0:
        assert (format_instant(one) < format_instant(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2008-06-01", datetime(2008, 6, 1, tzinfo=UTC)),
        ("2008-06-01T12:00:00", datetime(2008, 6, 1, 12, tzinfo=UTC)),
        ("2008-06-01T12:00:00Z", datetime(2008, 6, 1, 12, tzinfo=UTC)),
        ("2008-06-01T12:00:00+02:00", datetime(2008, 6, 1, 10, tzinfo=UTC)),
    ],
)
def test_an_instant_without_a_zone_is_utc(text: str, instant: datetime) -> None:
    assert parse_instant(text) == instant
    assert parse_instant(text).utcoffset() == timedelta(0)


@given(instants, st.integers(1, 10_000).map(lambda minutes: timedelta(minutes=minutes)))
def test_a_floored_instant_starts_its_period(moment: datetime, period: timedelta) -> None:
    start = floor_to(moment, period)

    assert start <= moment < start + period
    assert (start - datetime(1970, 1, 1, tzinfo=UTC)) % period == timedelta(0)
    assert floor_to(start, period) == start


def test_a_units_digest_is_what_was_baked_into_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUDAL_UNIT_DIGEST", "baked")
    unit_digest.cache_clear()

    assert unit_digest("trainer") == "baked"
    unit_digest.cache_clear()


def test_elsewhere_it_follows_the_units_sources_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library, unit = tmp_path / "libs" / "caudal", tmp_path / "services" / "trainer"
    library.mkdir(parents=True)
    (unit / "tests").mkdir(parents=True)
    (library / "identity.py").write_text("library")
    (unit / "step.py").write_text("step")
    monkeypatch.setattr(identity, "__file__", str(library / "identity.py"))

    def now() -> str:
        unit_digest.cache_clear()
        return unit_digest("trainer")

    first = now()
    (unit / "tests" / "test_step.py").write_text("a test")
    (tmp_path / "README.md").write_text("words")
    assert now() == first
    (unit / "step.py").write_text("another step")
    second = now()
    (library / "identity.py").write_text("another library")
    assert len({first, second, now()}) == 3

    unit_digest.cache_clear()
    with pytest.raises(NotFound, match="CAUDAL_UNIT_DIGEST"):
        unit_digest("nowhere")
    unit_digest.cache_clear()


def test_identities_are_the_same_in_another_process() -> None:
    code = "from caudal.identity import digest; print(digest('a', {'b': 1, 'a': [1.5, None]}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == digest("a", {"b": 1, "a": [1.5, None]})
