"""Alarms reach every destination, once."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from caudal.alarms import Alarm, deliver
from caudal.environment import AlarmDestination
from caudal.errors import UsageError
from caudal.storage import Storage
from tests.world import day

DRIFT = Alarm("payments", day("2026-03-01"), "drift", "amount", 0.4, 0.25, {"rows": 500})
QUALITY = Alarm("payments", day("2026-03-01"), "quality", None, 0.61, 0.7)


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
    assert first["evidence"] == {"rows": 500}
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
    assert "quality: 0.61 (threshold 0.7)" in err
    entry = json.loads(out)
    assert (entry["severity"], entry["alarm"]["id"]) == ("CRITICAL", QUALITY.id)
    assert caplog.records[0].levelno == logging.ERROR


def test_the_same_alarm_of_another_as_of_is_another_alarm() -> None:
    later = Alarm("payments", day("2026-03-02"), "drift", "amount", 0.4, 0.25)
    assert later.id != DRIFT.id
    assert Alarm("payments", day("2026-03-01"), "drift", "amount", 9.9, 0.1).id == DRIFT.id


def test_two_classes_of_one_feature_are_two_alarms_and_each_is_named() -> None:
    yes, no = (
        Alarm("payments", day("2026-03-01"), "class_drift", "amount", 0.4, 0.25, among=name)
        for name in ("yes", "no")
    )
    assert yes.id != no.id
    assert yes.summary()["among"] == "yes"
    assert "among" not in DRIFT.summary()
    assert "class drift of amount among yes: 0.4 (threshold 0.25)" in str(yes)


def test_a_file_without_a_path_names_the_mend(record: str, local_storage: Storage) -> None:
    with pytest.raises(UsageError, match="add 'path'"):
        deliver([DRIFT], [AlarmDestination(type="file")], local_storage, record)
    assert not local_storage.exists(record)
