"""What a person sees: help, messages, tables and exit statuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from caudal.errors import CaudalError
from pipeline.cli import COMMANDS, cli, main
from pipeline.cli.plan import plan_command

Caudal = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def caudal(repository: Path, tmp_path: Path) -> Caudal:
    """Calls the command line in the repository, with everything that it writes below the test's folder."""

    def call(*arguments: str, cwd: Path = repository) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(str(repository / part) for part in ("libs", "services", "."))
        environment = {**os.environ, "CAUDAL_ROOT": str(tmp_path / "root"), "PYTHONPATH": paths, "NO_COLOR": "1"}
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return call


@pytest.fixture
def broken_contract(repository: Path, tmp_path: Path) -> Callable[[str, str], str]:
    """The shipped contract with one thing replaced, as a file."""

    def write(old: str, new: str) -> str:
        text = (repository / "contracts" / "bank_marketing.yaml").read_text()
        assert old in text
        path = tmp_path / "broken.yaml"
        path.write_text(text.replace(old, new, 1))
        return str(path)

    return write


def test_help_lists_every_command_and_imports_nothing_heavy(caudal, repository):
    answer = caudal("--help")
    assert answer.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in answer.stdout

    heavy = [
        "numpy",
        "pandas",
        "pyarrow",
        "duckdb",
        "apache_beam",
        "xgboost",
        "mlflow",
        "fsspec",
        "sqlglot",
        "rich",
        "pydantic",
    ]
    probe = (
        "import sys; from pipeline.cli import cli; cli(['--help'], standalone_mode=False); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    seen = subprocess.run(
        [sys.executable, "-c", probe], cwd=repository, capture_output=True, text=True, check=True
    )
    assert seen.stdout.splitlines()[-1] == "[]"


def every_command(group=cli, path=()):
    """All commands and subcommands, groups left out: their words, and the command."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield pytest.param((*path, name), command, id=" ".join((*path, name)))


@pytest.mark.parametrize(("words", "command"), every_command())
def test_each_command_has_help_with_an_example_that_it_takes(words, command):
    answer = CliRunner().invoke(cli, [*words, "--help"])
    assert answer.exit_code == 0
    assert command.help
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []
    examples = [shlex.split(text) for text in re.findall(r"`(caudal [^`]*)`", command.epilog or "")]
    assert examples, "it has no example"
    own = [example[1 + len(words) :] for example in examples if tuple(example[1 : 1 + len(words)]) == words]
    assert own, "its examples are of other commands"
    for arguments in own:
        command.make_context(words[-1], arguments)


@pytest.mark.parametrize(("words", "command"), every_command())
def test_each_command_but_the_server_takes_json(words, command):
    offered = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in offered) == (words != ("serve",))


def test_a_group_has_help_with_an_example():
    for group in ("runs", "models"):
        answer = CliRunner().invoke(cli, [group, "--help"])
        assert answer.exit_code == 0
        assert "Example" in answer.output


def test_a_command_that_does_not_exist_is_answered_with_the_nearest(caudal):
    answer = caudal("chekc")
    assert answer.returncode == 2
    assert "Did you mean 'check'?" in answer.stderr


def test_outside_a_project_the_mend_is_told(caudal, tmp_path):
    answer = caudal("check", "bank_marketing", cwd=tmp_path)
    assert answer.returncode == 2
    assert "contracts/ and environments/" in answer.stderr


def test_a_contract_that_does_not_exist_is_answered_with_those_that_do(caudal):
    answer = caudal("check", "bank")
    assert answer.returncode == 2
    assert "bank_marketing" in answer.stderr


def test_a_sound_contract_and_a_file_that_fits_it_pass(caudal):
    answer = caudal("check", "bank_marketing", "--data", "data/bank_marketing/bank_marketing.csv.gz")
    assert answer.returncode == 0
    assert "45,211 rows fit it" in answer.stdout


@pytest.mark.parametrize(
    ("old", "new", "said", "mend"),
    [
        ("required: true", "requierd: true", "unknown key", "required"),
        ("campaign: ", "campaing: ", "", "campaing"),
        ("balance:      {type: integer", "balance:      {type: boolean", "balance", "kind"),
        ("range: [16, 120]", "range: [120, 16]", "impossible", "[16, 120]"),
    ],
)
def test_a_mistake_in_a_contract_is_told_with_file_line_and_mend_and_nothing_is_written(
    caudal, broken_contract, tmp_path, old, new, said, mend
):
    path = broken_contract(old, new)
    lines = Path(path).read_text().splitlines()
    for command in (["check", path], ["run", path], ["replay", path]):
        answer = caudal(*command)
        assert answer.returncode == 2, command
        place = answer.stderr.split("error: ", 1)[1]
        assert place.startswith(f"{path}:")
        number = int(place[len(path) + 1 :].split(":")[0])
        assert 1 <= number <= len(lines)
        assert said in answer.stderr
        assert mend in answer.stderr
        assert "mend: " in answer.stderr
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  y:            {type: category", "  extra:        {type: category}\n  y:            {type: category",
         "the column 'extra' is not in bank_marketing.csv.gz"),
        ("contact_date: {type: date", "contact_date: {type: timestamp", "have no timestamp in 'contact_date'"),
        ("range: [16, 120]", "range: [16, 60]", "have 'age' outside its range"),
    ],
)  # fmt: skip
def test_a_contract_that_does_not_fit_the_data_is_told_with_its_line_and_nothing_is_written(
    caudal, broken_contract, tmp_path, old, new, said
):
    path = broken_contract(old, new)
    sample = "data/bank_marketing"
    line = next(
        number
        for number, text in enumerate(Path(path).read_text().splitlines(), start=1)
        if new.splitlines()[0].split("{")[0].strip() in text
    )
    for command in (
        ["check", path, "--data", f"{sample}/bank_marketing.csv.gz"],
        ["replay", path, "--root", str(tmp_path / "root")],
    ):
        answer = caudal(*command)
        assert answer.returncode == 2, answer.stderr
        assert f"{path}:{line}: " in answer.stderr
        assert said in answer.stderr
    assert not (tmp_path / "root").exists()


def test_machines_are_told_of_problems_as_json(caudal, broken_contract):
    answer = caudal("check", broken_contract("range: [16, 120]", "range: [120, 16]"), "--json")
    assert answer.returncode == 2
    told = json.loads(answer.stdout)
    assert told["ok"] is False
    assert set(told["problems"][0]) == {"where", "what", "mend"}


def test_the_schema_of_a_table_is_what_bigquery_takes(caudal):
    answer = caudal("schema", "bank_marketing", "--table", "lake")
    table = json.loads(answer.stdout)["lake.bank_marketing"]
    assert {"name": "contact_id", "type": "INTEGER", "mode": "NULLABLE"} in table["schema"]
    assert table["time_partitioning"] == {"type": "DAY", "field": "_ingested_at"}


def test_with_no_run_yet_the_list_says_what_to_do(caudal):
    answer = caudal("runs", "list", "bank_marketing")
    assert answer.returncode == 0
    assert "caudal run bank_marketing" in answer.stdout
    assert json.loads(caudal("runs", "list", "bank_marketing", "--json").stdout) == []


def test_a_report_of_nothing_says_what_to_do_and_leaves_nothing(caudal, tmp_path):
    page = tmp_path / "page.html"
    answer = caudal("report", "bank_marketing", "--out", str(page))
    assert answer.returncode == 1
    assert "there is nothing to report" in answer.stderr
    assert "caudal run bank_marketing" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_report_into_a_folder_that_is_not_there_is_refused(caudal, tmp_path):
    answer = caudal("report", "bank_marketing", "--out", str(tmp_path / "nowhere" / "page.html"))
    assert answer.returncode == 2
    assert "there is no such folder" in answer.stderr


def test_a_run_that_is_not_there_is_told(caudal):
    answer = caudal("runs", "show", "bank_marketing", "latest")
    assert answer.returncode == 1
    assert "caudal runs list bank_marketing" in answer.stderr


def test_a_date_that_is_none_is_refused(caudal):
    answer = caudal("run", "bank_marketing", "--as-of", "yesterday")
    assert answer.returncode == 2
    assert "2010-06-01" in answer.stderr


def told_statuses(repository):
    """The exit statuses of the page, and what each means."""
    page = (repository / "docs" / "command-line.md").read_text()
    return {int(status): said for status, said in re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)}


def test_every_exit_status_of_an_error_is_on_the_page(repository):
    def below(kind):
        return {kind, *(one for child in kind.__subclasses__() for one in below(child))}

    known = {error.exit_status for error in below(CaudalError)}
    assert known == {1, 2}
    assert set(told_statuses(repository)) == {0, *known, 3, 130}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["check", "bank_marketing"], 0),
        (["runs", "show", "bank_marketing", "latest"], 1),
        (["check", "bank"], 2),
        (["check", "bank_marketing", "--date", "x.csv"], 2),
        (["schema"], 2),
    ],
)
def test_a_command_ends_with_the_status_that_the_page_tells(caudal, repository, arguments, status):
    assert caudal(*arguments).returncode == status
    assert status in told_statuses(repository)


def test_a_plan_that_would_change_something_ends_with_its_own_status_when_asked(monkeypatch):
    from pipeline.release.stacks import Change

    class Stacks:
        def plan(self):
            return [Change("data", "google_x.y", ("update",))]

    monkeypatch.setattr("pipeline.cli.plan._stacks", lambda env: (Stacks(), None))
    asked = ["--env", "dev", "--fail-on-changes"]
    assert CliRunner().invoke(plan_command, asked).exit_code == 3
    assert CliRunner().invoke(plan_command, asked[:-1]).exit_code == 0


def test_ctrl_c_ends_a_command_with_130_and_a_word(repository, tmp_path):
    paths = os.pathsep.join(str(repository / part) for part in ("libs", "services", "."))
    out = tmp_path / "landing"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "simulate", "wallet", "--rows", "50000000", "--out", str(out)],
        cwd=repository, env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not list(out.glob("*.parquet")) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert said.strip().endswith("stopped")
    assert "Traceback" not in said


def test_before_there_is_any_model_each_command_says_how_to_get_one(caudal):
    for words in (["models", "list"], ["models", "history"], ["backfill"], ["models", "show", "champion"]):
        answer = caudal(*words[:2], "bank_marketing", *words[2:])
        assert "Traceback" not in answer.stderr
        assert "caudal run bank_marketing" in answer.stdout + answer.stderr, words
        assert answer.returncode == (0 if words[1:] in (["list"], ["history"]) else 1), words
    assert json.loads(caudal("models", "history", "bank_marketing", "--json").stdout) == []


def test_an_instant_at_which_nothing_was_live_is_told_and_one_that_is_none_is_refused(caudal):
    answer = caudal("models", "history", "bank_marketing", "--at", "2009-05-01")
    assert answer.returncode == 1
    assert "no model was live at 2009-05-01" in answer.stderr
    answer = caudal("models", "history", "bank_marketing", "--at", "2009-13-01")
    assert answer.returncode == 2
    assert "'2009-13-01' is not a date" in answer.stderr


def test_a_port_that_is_taken_or_is_none_is_told(caudal):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = caudal("serve", "bank_marketing", "--port", str(taken.getsockname()[1]))
    assert answer.returncode == 2
    assert "Address already in use" in answer.stderr
    assert "choose another port" in answer.stderr
    answer = caudal("serve", "bank_marketing", "--port", "99999")
    assert answer.returncode == 2
    assert "99999 is not in the range" in answer.stderr


def test_without_credentials_a_cloud_environment_says_how_to_log_in(monkeypatch, capsys):
    from google.auth.exceptions import DefaultCredentialsError

    def refuse(*_):
        raise DefaultCredentialsError("none were found")

    monkeypatch.setattr("caudal.backends.open_storage", refuse)
    monkeypatch.setattr(sys, "argv", ["caudal", "runs", "list", "bank_marketing", "--env", "dev"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "gcloud auth application-default login" in capsys.readouterr().err


def test_a_sample_that_does_not_ship_is_told_with_the_way_to_make_one(caudal, tmp_path):
    answer = caudal("replay", "wallet", "--root", str(tmp_path / "root"))
    assert answer.returncode == 1
    assert "--rows" in answer.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["simulate", "wallet", "--rows", "1000", "--out", "{blocked}/wallet"], "blocked"),
        (["serve", "bank_marketing", "--port", "0", "--root", "{blocked}"], "blocked"),
        (["models", "history", "bank_marketing", "--at", "0001-01-01T00:00:00+14:00"], "is not a date"),
        (["models", "rollback", "bank_marketing", "--reason", " "], "say why"),
    ],
    ids=["no folder", "no log", "before all years", "no reason"],
)
def test_what_the_system_or_the_calendar_refuses_is_told_without_a_traceback(caudal, tmp_path, words, says):
    (tmp_path / "blocked").write_text("a file where a folder is wanted")
    answer = caudal(*(word.format(blocked=tmp_path / "blocked") for word in words))
    assert answer.returncode in (1, 2)
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_is_told(caudal, repository):
    paths = os.pathsep.join(str(repository / part) for part in ("libs", "services", "."))
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "schema", "bank_marketing", "--json"],
            cwd=repository,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert answer.returncode == 1
    assert "no space left on device" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_log_level_that_is_none_is_refused(caudal, monkeypatch):
    monkeypatch.setenv("CAUDAL_LOG", "loud")
    answer = caudal("schema", "bank_marketing")
    assert answer.returncode == 2
    assert "CAUDAL_LOG is 'LOUD'" in answer.stderr
    assert "WARNING" in answer.stderr


@pytest.mark.parametrize(
    ("name", "content"), [("x.parquet", b"PAR1 and no more"), ("x.txt", b"a"), ("none.csv", None)]
)
def test_a_file_that_can_not_be_read_is_a_problem_in_json_too(caudal, tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    answer = caudal("check", "bank_marketing", "--data", str(path), "--json")
    assert answer.returncode == 2
    (problem,) = json.loads(answer.stdout)["problems"]
    assert problem["where"] == str(path)
    assert problem["mend"]
