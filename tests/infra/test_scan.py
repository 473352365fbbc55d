"""The gate around checkov: nothing may pass for want of having been looked at."""

from __future__ import annotations

from typing import Any

from infra.checks.scan import ACCEPTED, Accepted, judge

EXCEPTION = Accepted("CKV_1", r"^data/logs$", "a reason")


def outcome(kind: str, check: str = "CKV_1", resource: str = "logs") -> dict[str, Any]:
    return {
        "outcome": kind,
        "check_id": check,
        "check_name": "a check",
        "resource": f"resource.{resource}",
        "file_path": "/data/cdk.tf.json",
    }


def test_a_scan_that_ran_no_check_fails() -> None:
    assert judge([], [], []).problems == ["no check was run: checkov found nothing to look at"]


def test_passed_checks_are_counted() -> None:
    verdict = judge([outcome("passed"), outcome("passed")], [], [])
    assert (verdict.checks, verdict.problems) == (2, [])


def test_a_failure_that_nobody_accepted_is_named_with_its_resource() -> None:
    assert judge([outcome("failed", resource="open")], [], []).problems == ["data/open: CKV_1 a check"]


def test_a_failure_is_accepted_on_the_resource_of_the_exception_only() -> None:
    verdict = judge([outcome("failed"), outcome("failed", resource="other")], [], [EXCEPTION])
    assert verdict.accepted == 1
    assert verdict.problems == ["data/other: CKV_1 a check"]


def test_an_exception_that_nothing_needs_any_more_fails() -> None:
    assert "no longer fails" in judge([outcome("passed")], [], [EXCEPTION]).problems[0]


def test_a_check_that_could_not_be_run_fails_unless_it_is_known() -> None:
    assert judge([outcome("passed")], ["CKV_GCP_54"], []).problems == []
    assert judge([outcome("passed")], ["CKV_9"], []).problems == ["CKV_9: could not be run"]


def test_a_skip_within_a_stack_fails() -> None:
    assert "without standing in ACCEPTED" in judge([outcome("skipped")], [], []).problems[0]


def test_what_checkov_can_not_read_fails() -> None:
    unparsed = {"outcome": "unparsed", "resource": "x.tf.json"}
    assert "can't read" in judge([outcome("passed"), unparsed], [], []).problems[0]


def test_every_exception_has_a_reason() -> None:
    assert all(len(accepted.reason) > 20 for accepted in ACCEPTED)
