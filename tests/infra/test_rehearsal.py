"""Faults that are put into a stack on purpose: the real terraform, with the stand-in provider, must find each.

Run by `make rehearse`, which sets CAUDAL_REHEARSE; in CI (CI=true) neither terraform nor `.venv-rehearsal` may be
missing then.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.checks.tables import problems_of
from infra.rehearsal.rehearse import PYTHON, Rehearsal, RehearsalError, main, rehearse
from tests.infra.support import ROOT

MISSING = shutil.which("terraform") is None or not PYTHON.exists()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("CAUDAL_REHEARSE" not in os.environ, reason="run by 'make rehearse'"),
    pytest.mark.skipif(
        MISSING and os.environ.get("CI") != "true",
        reason="needs terraform and .venv-rehearsal: call 'make rehearse'",
    ),
]

BUCKET = {"name": "b", "location": "europe-west1"}
Stack = Callable[[dict[str, Any]], tuple[Rehearsal, Path]]


def document(resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "terraform": {"required_providers": {"google": {"source": "google", "version": "6.50.0"}}},
        "provider": {"google": [{"project": "p", "region": "europe-west1"}]},
        "resource": resources,
    }


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Puts resources into the one stack `s` of a made-up environment."""

    def make(resources: dict[str, Any]) -> tuple[Rehearsal, Path]:
        output = tmp_path / "out"
        (output / "stacks" / "s").mkdir(parents=True, exist_ok=True)
        (output / "stacks" / "s" / "cdk.tf.json").write_text(json.dumps(document(resources)))
        (output / "manifest.json").write_text('{"stacks": {"s": {"dependencies": []}}}')
        rehearsal = Rehearsal(tmp_path / "work", ROOT / ".rehearsal" / "schema")
        rehearsal.take(output, ["s"])
        return rehearsal, output

    return make


def test_a_sound_stack_passes_and_leaves_nothing(stack: Stack) -> None:
    rehearsal, output = stack({"google_storage_bucket": {"b": BUCKET}})
    assert rehearse(rehearsal, output) == []


def test_wrong_arguments_are_all_found_before_anything_is_made(stack: Stack) -> None:
    wrong = {
        "google_storage_bucket": {
            "misspelled": {**BUCKET, "locatoin": "x"},
            "missing": {"name": "b"},
            "read_only": {**BUCKET, "url": "gs://b"},
            "wrong_type": {**BUCKET, "force_destroy": ["yes"]},
            "too_many": {**BUCKET, "versioning": [{"enabled": True}, {"enabled": False}]},
        },
        "google_cloud_run_v2_job": {
            "reference": {"location": "${google_nothing.x.id}", "name": "j", "template": {}}
        },
    }
    rehearsal, _ = stack(wrong)
    assert rehearsal.run("s", "init").passed
    outcome = rehearsal.run("s", "plan")
    assert not outcome.passed
    for said in ("locatoin", '"location" is required', "force_destroy", "google_nothing", "versioning"):
        assert said in outcome.output, outcome.output


def test_a_value_outside_the_documented_ones_is_found(stack: Stack) -> None:
    service = {"name": "s", "location": "europe-west1", "ingress": "INGRESS_TRAFIC_ALL", "template": {}}
    rehearsal, _ = stack(
        {
            "google_cloud_run_v2_service": {"s": service},
            "google_storage_bucket": {"b": {**BUCKET, "url": "gs://b"}},
        }
    )
    rehearsal.run("s", "init")
    output = rehearsal.run("s", "plan").output
    assert "expected ingress to be one of" in output
    assert "unconfigurable attribute" in output


def test_two_objects_of_one_name_collide_when_they_are_made(stack: Stack) -> None:
    rehearsal, output = stack({"google_storage_bucket": {"one": BUCKET, "two": BUCKET}})
    assert "s: apply" in rehearse(rehearsal, output)


def test_what_is_protected_can_not_be_destroyed_and_is_left_behind(stack: Stack) -> None:
    table = {"dataset_id": "d", "table_id": "t", "deletion_protection": True}
    rehearsal, output = stack({"google_bigquery_table": {"t": table}})
    failures = rehearse(rehearsal, output)
    assert "s: destroy" in failures
    assert any("left behind: google_bigquery_table" in failure for failure in failures)
    again = Rehearsal(rehearsal.work.parent / "again", ROOT / ".rehearsal" / "schema")
    assert rehearse(again, output, protected=True) == []


def test_data_without_protection_fails_an_environment_that_is_to_be_protected(stack: Stack) -> None:
    table = {"dataset_id": "d", "table_id": "t", "deletion_protection": False}
    rehearsal, output = stack({"google_bigquery_table": {"t": table}})
    (failure,) = rehearse(rehearsal, output, protected=True)
    assert "was not protected" in failure


def test_an_object_that_somebody_deleted_makes_the_second_plan_other_than_empty(stack: Stack) -> None:
    rehearsal, _ = stack({"google_storage_bucket": {"b": BUCKET}})
    for step in ("init", "plan", "apply"):
        assert rehearsal.run("s", step).passed
    rehearsal.cloud.remove("google_storage_bucket", {"id": "b"})
    assert not rehearsal.run("s", "second plan").passed


def test_a_column_that_a_plan_would_drop_is_seen_in_terraforms_own_plan(stack: Stack) -> None:
    def table(columns: list[dict[str, str]]) -> dict[str, Any]:
        made = {"dataset_id": "d", "table_id": "t", "deletion_protection": False, "schema": json.dumps(columns)}
        return {"google_bigquery_table": {"t": made}}

    columns = [{"name": "a", "type": "STRING"}, {"name": "b", "type": "STRING"}]
    rehearsal, _ = stack(table(columns))
    for step in ("init", "plan", "apply"):
        assert rehearsal.run("s", step).passed
    rehearsal, _ = stack(table(columns[:1]))
    assert rehearsal.run("s", "plan").passed
    shown = subprocess.run(
        ["terraform", "show", "-json", "plan.bin"],
        cwd=rehearsal.work / "stacks" / "s",
        env=rehearsal.environment,
        capture_output=True,
        check=True,
    )
    (problem,) = problems_of(json.loads(shown.stdout))
    assert "'b' would be dropped" in problem.what


def test_without_terraform_a_laptop_skips_and_ci_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RehearsalError, match="terraform"):
        Rehearsal(tmp_path / "work", tmp_path / "schema")
    monkeypatch.setenv("CI", "")
    assert main([str(tmp_path), "--work", str(tmp_path / "w")]) == 0
    monkeypatch.setenv("CI", "true")
    assert main([str(tmp_path), "--work", str(tmp_path / "w")]) == 1
    assert "developer.hashicorp.com/terraform/install" in capsys.readouterr().err
