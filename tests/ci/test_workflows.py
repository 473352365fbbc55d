"""The workflows of GitHub, held against their linters and against what they call."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pipeline.cli import COMMANDS, cli

SHA = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@pytest.fixture(scope="session")
def tools(repository: Path) -> Path:
    folder = repository / ".venv-ci_tools" / "bin"
    if not folder.is_dir():
        reason = "there is no .venv-ci_tools: call `make lint-ci`, which makes it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def workflows(repository: Path) -> dict[str, dict[str, Any]]:
    files = sorted((repository / ".github" / "workflows").glob("*.yml"))
    return {file.stem: yaml.safe_load(file.read_text()) for file in files}


def jobs(repository: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, workflow in workflows(repository).items():
        for job_name, job in workflow["jobs"].items():
            yield f"{name}.{job_name}", job


def scripts(repository: Path) -> Iterator[tuple[str, str]]:
    for name, job in jobs(repository):
        for step in job.get("steps", ()):
            if "run" in step:
                yield name, step["run"]
    for action in sorted((repository / ".github" / "actions").rglob("action.yml")):
        for step in yaml.safe_load(action.read_text())["runs"]["steps"]:
            if "run" in step:
                yield action.parent.name, step["run"]


def passes(*command: object, folder: Path) -> None:
    done = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing(repository: Path, tools: Path) -> None:
    passes(tools / "actionlint", "-no-color", folder=repository)


def test_zizmor_finds_nothing(repository: Path, tools: Path) -> None:
    passes(tools / "zizmor", "--offline", "--no-progress", "--persona=pedantic", ".github", folder=repository)


def test_hadolint_finds_nothing(repository: Path, tools: Path) -> None:
    files = sorted((repository / "services").glob("*/Dockerfile"))
    assert files
    passes(tools / "hadolint", *files, folder=repository)


def test_every_action_is_pinned_by_its_commit_and_named_by_its_version(repository: Path) -> None:
    files = [*(repository / ".github").rglob("*.yml")]
    used = [
        line.split("uses:", 1)[1].strip() for f in files for line in f.read_text().splitlines() if "uses:" in line
    ]
    assert [use for use in used if not use.startswith("$/") and not SHA.fullmatch(use)] == []
    assert any(SHA.fullmatch(use) for use in used)


def test_a_job_has_only_the_rights_that_it_names(repository: Path) -> None:
    for name, workflow in workflows(repository).items():
        assert workflow["permissions"] == {}, name
    for name, job in jobs(repository):
        assert "permissions" in job, name
        writes = {right for right, access in job["permissions"].items() if access == "write"}
        assert writes <= {"id-token", "pull-requests", "contents"}, name
    writers = {name for name, job in jobs(repository) if job["permissions"].get("contents") == "write"}
    assert writers == {"release.release"}


def test_no_key_is_kept_anywhere(repository: Path) -> None:
    for file in (repository / ".github").rglob("*.yml"):
        text = file.read_text()
        assert "credentials_json" not in text
        assert "secrets." not in text, "identities are federated: no secret is needed"


def test_whoever_may_change_the_cloud_waits_for_that_environments_reviewers(repository: Path) -> None:
    for name, job in jobs(repository):
        text = yaml.safe_dump(job)
        if "identity" in text and re.search(r"identity .*apply", text):
            assert "environment" in job, name


def test_deployments_of_an_environment_take_turns_and_are_never_cut_off(repository: Path) -> None:
    deploy = workflows(repository)["deploy"]
    for environment in ("dev", "staging", "prod"):
        job = deploy["jobs"][environment]
        assert job["concurrency"] == {"group": f"environment-{environment}", "cancel-in-progress": False}
    assert deploy["jobs"]["staging"]["needs"] == ["build", "dev"]
    assert deploy["jobs"]["prod"]["needs"] == ["build", "staging"]


def test_every_environment_gets_the_release_that_was_built_once(repository: Path) -> None:
    deploy = workflows(repository)["deploy"]["jobs"]
    built = [name for name, job in deploy.items() if "caudal release --env dev" in yaml.safe_dump(job)]
    assert built == ["build"]
    for environment in ("dev", "staging", "prod"):
        assert deploy[environment]["with"]["release"] == "${{ needs.build.outputs.release }}"


def test_every_command_of_caudal_is_one_with_these_options(repository: Path) -> None:
    found = [
        words.split()
        for _, script in scripts(repository)
        for words in re.findall(r"(?:bin/caudal|-m pipeline\.cli) ([^\n;|)>]+)", script)
    ]
    assert {words[0] for words in found} >= {"release", "plan", "apply", "publish"}
    for words in found:
        assert words[0] in COMMANDS, words
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, words


def test_every_target_of_make_is_one(repository: Path) -> None:
    known = set(re.findall(r"^([a-z][a-z-]*):", (repository / "Makefile").read_text(), re.MULTILINE))
    wanted = {
        word
        for _, script in scripts(repository)
        for words in re.findall(r"^make ([a-z -]+)", script, re.MULTILINE)
        for word in words.split()
    }
    assert wanted
    assert wanted <= known
