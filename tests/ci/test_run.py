"""`.ci/run`: what it does where the emulators' Python is there, and where it is not. `make` is stood in for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

MAKE = """#!/usr/bin/env bash
if [ "$*" = "--silent emulators-python" ]; then echo "$FOUND"; exit; fi
echo "make $* ${CAUDAL_EMULATORS:-}"
[ "$1" != "${FAILS:-}" ]
"""


@pytest.fixture
def run(repository: Path, tmp_path: Path) -> Run:
    for name in ("make", "chromium"):
        (tmp_path / name).write_text(MAKE)
        (tmp_path / name).chmod(0o755)

    def call(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]), **variables}
        command = ["bash", str(repository / ".ci" / "run")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return call


def test_the_emulators_are_installed_before_the_tests_where_their_python_is_found(run: Run) -> None:
    done = run(FOUND="/some/python3.13")
    assert done.returncode == 0
    steps = [line.strip() for line in done.stdout.splitlines()]
    assert steps.index("make emulators") < steps.index("make test ARGS=--ignore=tests/emulators")
    assert steps[-1] == "make test-emulators"
    assert "NOT CHECKED" not in done.stderr


@pytest.mark.parametrize("part", ["test", "test-emulators"])
def test_a_failure_of_either_part_fails_the_check_and_both_are_shown(run: Run, part: str) -> None:
    done = run(FOUND="/some/python3.13", FAILS=part)
    assert done.returncode == 1
    steps = [line.strip() for line in done.stdout.splitlines()]
    assert {"make test ARGS=--ignore=tests/emulators", "make test-emulators"} <= set(steps)


def test_without_that_python_all_else_is_checked_and_the_gap_is_said_last(run: Run) -> None:
    done = run(FOUND="")
    assert done.returncode == 0
    assert "make emulators" not in done.stdout
    assert "make test none" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("==> NOT CHECKED: tests/emulators")


def test_on_github_its_absence_fails(run: Run) -> None:
    done = run(FOUND="", GITHUB_ACTIONS="true")
    assert done.returncode == 1
    assert "make" not in done.stdout
    assert "Python 3.13" in done.stderr
