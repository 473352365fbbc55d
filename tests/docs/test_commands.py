"""Every command that a page tells a reader to call is run, or stands in a list with the reason and what runs it.

Those of `caudal` and `python` run as they are written, in a small project; so do benchmarks, on less. What can't
run here (it installs, takes minutes, needs a network) names the test or the check that does its work instead, and
is held against it; one is left to people. Blocks marked `sh cloud` need a Google Cloud project: of those only the
options are checked.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from tests.docs.pages import CLOUD, REPOSITORY, SHELL, Command, every_command

COMMANDS = every_command()


@dataclass(frozen=True)
class Elsewhere:
    """Why a command is not run here, and what runs what it would run.

    Attributes:
        file: the test or the script of CI.
        proof: text in that file, which calls it.
        recipe: for a target of make: what the target calls.
    """

    why: str
    file: str
    proof: str
    recipe: str = ""


CHECK = ".ci/run"
GUIDE = Elsewhere("serves until it is ended", "tests/serving/test_guide.py", 'line.startswith("caudal serve")')
REQUEST = Elsewhere("asks that server", "tests/serving/test_guide.py", 'line.startswith("curl")')
ELSEWHERE = {
    "make run": Elsewhere(
        "takes a minute", "tests/replay/conftest.py", '"replay", CONTRACT', "caudal replay bank_marketing"
    ),
    "make run ARGS=--fresh": Elsewhere(
        "takes a minute", "tests/replay/test_replay.py", '"--fresh"', "caudal replay bank_marketing --fresh"
    ),
    "caudal replay bank_marketing --rollout challenger --root .caudal/replay/trials": Elsewhere(
        "takes a minute", "tests/replay/test_rollout.py", '"--rollout", "challenger"'
    ),
    "caudal replay wallet --every day --rows 210000 --days 90 --inject fraud@75": Elsewhere(
        "takes five minutes", "tests/replay/test_simulated.py", '"--inject", "fraud@'
    ),
    "make test": Elsewhere("is what runs this test", CHECK, "make test", "python -m pytest"),
    "make test-emulators": Elsewhere(
        "needs a Python and packages of its own", CHECK, "make emulators", "pytest tests/emulators"
    ),
    "make lint": Elsewhere("is the first part of `make test`", "Makefile", "test: lint", "ruff check"),
    "make format": Elsewhere("changes the files that `make lint` judges", CHECK, "make test", "ruff format"),
    "make dev": Elsewhere("installs", CHECK, "make test", ""),
    "make ui": Elsewhere(
        "serves until it is ended", "tests/docs/test_commands.py", 'recipe("make ui")', "mlflow ui"
    ),
    "make picture": Elsewhere(
        "changes a picture of the repository",
        "tests/report/test_report.py",
        "take(report, picture",
        "docs/picture.py",
    ),
    "make synth checkov rehearse": Elsewhere(
        "takes minutes", CHECK, "make synth checkov rehearse", "infra.rehearsal.rehearse"
    ),
    "make bench-etl": Elsewhere(
        "takes minutes", "tests/etl_oracle/test_benchmark.py", '"benchmarks.etl"', "-m benchmarks.etl"
    ),
    "make bench-etl ROWS=17500000 SHAPES=hot": Elsewhere(
        "takes minutes", "tests/etl_oracle/test_benchmark.py", '("--shape", shape)', "--shape hot"
    ),
    "caudal serve bank_marketing": GUIDE,
    "curl -s http://127.0.0.1:8080/v1/predict -d @row.json": REQUEST,
    'curl -s "http://127.0.0.1:8080/v1/predict?reasons=3" -d @row.json': REQUEST,
    "curl -s http://127.0.0.1:8080/v1/model": REQUEST,
    "python -m benchmarks.trial": Elsewhere(
        "takes minutes", "tests/benchmarks/test_trial_proofs.py", "benchmarks.trial"
    ),
    "python -m benchmarks.drift --write": Elsewhere(
        "takes half an hour", "tests/benchmarks/test_drift_lab.py", "lab.main()"
    ),
    "python docs/generate.py": Elsewhere(
        "writes pages of the repository", "tests/docs/test_docs.py", '"generate.py"'
    ),
    "python data/bank_marketing/make_data.py": Elsewhere(
        "downloads", "tests/data/test_bank_marketing_data.py", "make_data"
    ),
    "python data/bank_marketing/make_data.py --from-url "
    "https://archive.ics.uci.edu/static/public/222/bank+marketing.zip": Elsewhere(
        "downloads", "tests/data/test_bank_marketing_data.py", "--from-url"
    ),
}
BY_HAND = {
    "make lock": "asks a registry for versions",
}
"""Commands that nothing runs but a person: each with the reason, and a recipe that make can read."""
SMALL = {
    "make bench-train ARGS=--part=scoring": ["benchmarks.train", "--part=scoring", "--rows=10000"],
    "make bench-serve": [
        *("benchmarks.serve", "--root=.caudal/replay/bank_marketing", "--rounds=1", "--seconds=0.2"),
        *("--soak-seconds=1", "--connections=50", "--monitor-rows=2000"),
    ],
}
"""Benchmarks, and the arguments with which they take seconds."""


def named(command: Command) -> str:
    return f"{command.page}: {command.text}"


def called_here(command: Command) -> bool:
    listed = (*ELSEWHERE, *SMALL, *BY_HAND)
    return command.mark == SHELL and command.text not in listed


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(REPOSITORY / part) for part in ("libs", "services", "."))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", [c for c in COMMANDS if called_here(c)], ids=named)
def test_it_runs_as_it_is_written(command: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = command.words
    # Only the repository itself has stacks and services to look at.
    folder = REPOSITORY if "--env" in words else project
    if program == "python":
        done = python(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        return
    assert program == "caudal", "nothing runs it: write it into ELSEWHERE with the reason, or let it be run here"
    monkeypatch.chdir(folder)
    answer = CliRunner().invoke(cli, words)
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert answer.output.strip()


@pytest.mark.slow
@pytest.mark.parametrize("text", SMALL)
def test_a_benchmark_runs_on_less(text: str, project: Path, tmp_path: Path) -> None:
    module, *options = SMALL[text]
    assert f"python -m {module}" in recipe(text)
    done = python("-m", module, *options, f"--out={tmp_path / 'figures.json'}", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures.json").exists()


@pytest.mark.parametrize("text", ELSEWHERE)
def test_what_does_not_run_here_runs_where_it_is_said_to(text: str) -> None:
    listed = ELSEWHERE[text]
    assert text in {command.text for command in COMMANDS}, "no page has it any more"
    assert listed.why
    assert listed.proof in (REPOSITORY / listed.file).read_text()
    if text.startswith("make "):
        assert listed.recipe in recipe(text)


@pytest.mark.parametrize("text", BY_HAND)
def test_what_only_a_person_runs_is_on_a_page_and_make_knows_it(text: str) -> None:
    assert text in {command.text for command in COMMANDS}, "no page has it any more"
    assert recipe(text).strip()


@pytest.mark.slow
def test_make_ui_shows_the_trainings_of_a_replay(project: Path) -> None:
    (line,) = [line for line in recipe("make ui").replace("\\\n", " ").splitlines() if "mlflow ui" in line]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = line.replace(".venv/bin/mlflow", f"{sys.executable} -m mlflow").replace("--port 5000", f"--port {port}")
    running = subprocess.Popen(line, shell=True, cwd=project, start_new_session=True, stderr=subprocess.DEVNULL)
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 100}',
        headers={"Content-Type": "application/json"},
    )
    try:
        end = time.monotonic() + 120
        while True:
            assert time.monotonic() < end
            assert running.poll() is None
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    found = json.load(answer)
                break
            except OSError:
                time.sleep(0.2)
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(timeout=30)
    assert any("bank_marketing" in experiment["name"] for experiment in found["experiments"])


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if not c.mark and not c.text.startswith("caudal")], ids=named
)
def test_a_command_in_a_sentence_is_one_that_runs(command: Command) -> None:
    if command.text not in ("make", "make help"):
        assert command.text in ELSEWHERE or command.text in SMALL or command.text in BY_HAND


@pytest.mark.parametrize("command", [c for c in COMMANDS if "caudal" in c.words[:1]], ids=named)
def test_the_options_are_those_that_the_command_takes(command: Command) -> None:
    try:
        parse(cli, command.words[1:])
    except click.MissingParameter:
        # In a sentence a command may stand by its name alone.
        if command.mark:
            raise


def test_commands_of_the_cloud_stand_on_the_pages_that_say_so() -> None:
    assert {command.page for command in COMMANDS if command.mark == CLOUD} == {"docs/deploy.md", "docs/models.md"}


def test_help_of_make_lists_the_targets() -> None:
    shown = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for text in (*ELSEWHERE, *SMALL, *BY_HAND):
        if text.startswith("make "):
            assert f"make {text.split()[1]} " in shown


def parse(group: click.Group, words: Sequence[str]) -> None:
    """Reads a command's arguments as it would, and does not call it."""
    context = click.Context(group, info_name="caudal")
    found: click.Command = group
    rest = [word for word in words if word != "--help"]
    while isinstance(found, click.Group) and rest:
        name = rest.pop(0)
        if name == "COMMAND":
            return
        known = found.get_command(context, name)
        assert known is not None, f"there is no command '{name}'"
        found, context = known, click.Context(known, parent=context, info_name=name)
    if not isinstance(found, click.Group):
        found.make_context(found.name, rest, parent=context.parent)


def recipe(text: str) -> str:
    """What make would call."""
    asked = ["make", "--dry-run", "--always-make", *text.split()[1:]]
    # Another make, which may have started these tests, tells nothing to this one.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "ARGS")}
    return subprocess.run(asked, cwd=REPOSITORY, env=alone, capture_output=True, text=True, check=True).stdout
