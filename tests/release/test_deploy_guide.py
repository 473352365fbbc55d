"""docs/deploy.md: what other programs are told is held against their own help (tests/docs runs ours)."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

BLOCK = re.compile(r"^```(sh|sh cloud)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(repository: Path, mark: str) -> list[list[str]]:
    text = (repository / "docs" / "deploy.md").read_text()
    blocks = [block.replace("\\\n", " ") for marked, block in BLOCK.findall(text) if marked == mark]
    lines = [line for block in blocks for line in block.splitlines()]
    # Variables in front of a command are not part of it.
    return [
        [w for i, w in enumerate(shlex.split(line)) if not (i < 3 and re.match(r"[A-Z_]+=", w))] for line in lines
    ]


@pytest.mark.slow
def test_every_command_of_gcloud_takes_these_options(repository: Path) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not there: its commands are checked where it is")
    # Of every command; its help lists them aside.
    everywhere = {"--project", "--format"}
    for words in [words for words in commands(repository, "sh cloud") if words[0] == "gcloud"]:
        group = [w for w in words[1:] if re.fullmatch(r"[a-z-]+", w) and not w.startswith("-")]
        for length in range(len(group), 0, -1):
            asked = ["gcloud", *group[:length], "--help"]
            help_text = subprocess.run(asked, capture_output=True, text=True)
            if help_text.returncode == 0:
                break
        else:
            pytest.fail(f"gcloud has no such command: {' '.join(words)}")
        options = {w for w in words if w.startswith("--")} - everywhere
        shown = re.sub(r"\x1b\[[0-9;]*m", "", help_text.stdout)
        assert {option for option in options if option not in shown} == set(), words


def test_the_argument_of_a_run_is_what_the_workflow_takes(repository: Path) -> None:
    (run,) = [words for words in commands(repository, "sh cloud") if words[:3] == ["gcloud", "workflows", "run"]]
    assert set(json.loads(run[run.index("--data") + 1])) <= {"as_of", "id", "reason"}


def test_the_guide_names_the_example_environments_own_project(repository: Path) -> None:
    text = (repository / "docs" / "deploy.md").read_text()
    named = set(re.findall(r"caudal-(?:dev|staging|prod)-\d+", text))
    for project in named:
        environment = project.split("-")[1]
        assert f"project: {project}" in (repository / "environments" / f"{environment}.yaml").read_text()
