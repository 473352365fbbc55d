"""Alarms reach every destination, once."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from caudal.alarms import Alarm, deliver
from caudal.environment import AlarmDestination
from caudal.storage import Storage
from tests.world import day

MARCH = day("2026-03-01")
DRIFT = Alarm("payments", MARCH, "drift", "psi", "amount", 0.4, 0.25, MARCH, "new", {"rows": 500, "p_value": 1e-9})
QUALITY = Alarm("payments", MARCH, "quality", "live_recall", None, 0.61, 0.7, MARCH)


@pytest.fixture
def record(tmp_path: Path) -> str:
    return (tmp_path / "ledger" / "alarms" / "run-inputs.json").as_uri()


def to_file(path: Path) -> AlarmDestination:
    return AlarmDestination(type="file", path=str(path))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_alarm_is_written_with_severity_evidence_and_runbook(
    tmp_path: Path, record: str, local_storage: Storage
) -> None:
    path = tmp_path / "alarms.ndjson"
    deliver([DRIFT, QUALITY], [to_file(path)], local_storage, record)
    first, second = lines(path)
    assert (first["kind"], first["feature"], first["severity"]) == ("drift", "amount", "warning")
    assert first["evidence"] == {"rows": 500, "p_value": 1e-9}
    assert first["evidence_text"] == "rows 500, p_value 1e-09"
    assert first["runbook"] == "docs/runbook.md#drift"
    assert (second["feature"], second["severity"]) == (None, "critical")


def test_a_repeated_step_delivers_nothing_again(tmp_path: Path, record: str, local_storage: Storage) -> None:
    path = tmp_path / "alarms.ndjson"
    assert deliver([DRIFT], [to_file(path)], local_storage, record) == [DRIFT]
    assert deliver([DRIFT, QUALITY], [to_file(path)], local_storage, record) == [QUALITY]
    assert [line["kind"] for line in lines(path)] == ["drift", "quality"]


def test_a_step_killed_before_its_record_leaves_one_line_in_the_file(
    tmp_path: Path, record: str, local_storage: Storage
) -> None:
    path = tmp_path / "alarms.ndjson"
    deliver([DRIFT], [to_file(path)], local_storage, record)
    local_storage.delete(record)
    deliver([DRIFT], [to_file(path)], local_storage, record)
    assert len(lines(path)) == 1


def test_a_line_that_a_killed_process_left_unfinished_spoils_no_other(
    tmp_path: Path, record: str, local_storage: Storage
) -> None:
    path = tmp_path / "alarms.ndjson"
    path.write_text('{"kind": "dri')
    deliver([QUALITY], [to_file(path)], local_storage, record)
    assert json.loads(path.read_text().splitlines()[-1])["kind"] == "quality"


def test_every_destination_gets_the_alarm(
    record: str, local_storage: Storage, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    everywhere = [AlarmDestination(type=kind) for kind in ("console", "log", "monitoring")]
    with caplog.at_level(logging.WARNING):
        deliver([QUALITY], everywhere, local_storage, record)
    out, err = capsys.readouterr()
    assert "ALARM critical" in err
    assert "quality: live_recall 0.61 (threshold 0.7)" in err
    entry = json.loads(out)
    assert (entry["severity"], entry["alarm"]["id"]) == ("CRITICAL", QUALITY.id)
    assert caplog.records[0].levelno == logging.CRITICAL


def test_an_id_is_of_contract_kind_measure_feature_and_as_of() -> None:
    assert replace(DRIFT, as_of=day("2026-03-02")).id != DRIFT.id
    assert replace(DRIFT, measure="jensen_shannon").id != DRIFT.id
    assert replace(DRIFT, state="ended").id != DRIFT.id
    assert replace(DRIFT, value=9.9, threshold=0.1, since=day("2026-01-01"), state="reminder").id == DRIFT.id


def test_a_reminder_says_since_when_and_an_end_is_no_more_than_information(
    record: str, local_storage: Storage, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    reminder = replace(DRIFT, state="reminder", since=day("2026-02-01"))
    ended = replace(QUALITY, state="ended", value=0.8)
    with caplog.at_level(logging.INFO):
        deliver(
            [reminder, ended], [AlarmDestination(type=t) for t in ("log", "monitoring")], local_storage, record
        )
    assert [entry.levelname for entry in caplog.records] == ["WARNING", "INFO"]
    assert "drift of amount since 2026-02-01T00:00:00Z: psi 0.4" in caplog.messages[0]
    assert "quality has ended: live_recall 0.8" in caplog.messages[1]
    assert [json.loads(line)["severity"] for line in capsys.readouterr().out.splitlines()] == ["WARNING", "INFO"]


def test_an_alarm_that_ended_with_its_model_says_so() -> None:
    ended = replace(QUALITY, state="ended", evidence={"reason": "model b is live in place of a"})
    assert "quality has ended, as model b is live in place of a: live_recall 0.61" in str(ended)


AS_THE_COMMAND_LINE = """
    from pipeline import cli
    cli.cli = lambda standalone_mode: send()
    cli.main()
"""


@pytest.mark.parametrize("level", [None, "ERROR", "INFO"])
@pytest.mark.parametrize("start", ["send()", AS_THE_COMMAND_LINE], ids=["a unit", "the command line"])
def test_the_log_gets_what_it_is_given_and_an_end_too_once(
    record: str, repository: Path, level: str | None, start: str
) -> None:
    script = f"""
import logging, sys
from dataclasses import replace
from caudal.alarms import deliver
from caudal.backends import storage_for
from caudal.environment import AlarmDestination
from tests.monitor.test_alarms import DRIFT, QUALITY

def send():
    ended = replace(QUALITY, state="ended")
    deliver([DRIFT, ended], [AlarmDestination(type="log")], storage_for({record!r}), {record!r})
    logging.getLogger("another").info("chatter")

{textwrap.dedent(start)}
"""
    paths = os.pathsep.join(str(repository / part) for part in ("libs", "services", "."))
    known = {name: value for name, value in os.environ.items() if name != "CAUDAL_LOG"}
    said = {"CAUDAL_LOG": level} if level else {}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**known, **said, "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr.count("drift of amount"), done.stderr.count("quality has ended")) == (
        "",
        1,
        1,
    )
    assert ("chatter" in done.stderr) == (level == "INFO" and start == AS_THE_COMMAND_LINE)


def test_evidence_in_text_names_what_lies_in_it(tmp_path: Path, record: str, local_storage: Storage) -> None:
    path = tmp_path / "alarms.ndjson"
    rejected = replace(DRIFT, evidence={"reasons": {"out_of_range:amount": 19}, "none": {}, "share": 0.123456})
    deliver([rejected], [to_file(path)], local_storage, record)
    assert lines(path)[0]["evidence_text"] == "reasons out_of_range:amount 19, none none, share 0.1235"


def test_two_classes_of_one_feature_are_two_alarms_and_each_is_named() -> None:
    yes, no = (
        replace(DRIFT, kind="class_drift", measure=f"among_{name}_psi", among=name) for name in ("yes", "no")
    )
    assert yes.id != no.id
    assert yes.summary()["among"] == "yes"
    assert "among" not in DRIFT.summary()
    assert "class drift of amount among yes: among_yes_psi 0.4 (threshold 0.25)" in str(yes)
