"""The prediction log's file passes the suite, and what is particular to a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caudal.served import ServedLines
from caudal.served.files import FileLines
from tests.contract_suites.served import ServedSuite, keys, line


@dataclass
class File:
    path: Path

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        self.write(*(text(one) for one in lines))

    def write(self, *data: bytes) -> None:
        with self.path.open("ab") as stream:
            stream.write(b"".join(data))

    def reader(self) -> ServedLines:
        return FileLines(self.path)


def text(written: dict[str, Any]) -> bytes:
    return json.dumps(written).encode() + b"\n"


@pytest.fixture
def log(tmp_path: Path) -> File:
    return File(tmp_path / "predictions.ndjson")


class TestFileLines(ServedSuite):
    @staticmethod
    def own(mark: str) -> bool:
        return re.fullmatch(r"[0-9a-f]{32}:\d+", mark) is not None and mark != f"{'0' * 32}:7"


def read(log: File, after: str = "") -> tuple[list[str], int, str]:
    """Keys, broken lines, and the last mark."""
    parts = list(log.reader().parts("payments", after))
    return keys(iter(parts)), sum(part.broken for part in parts), parts[-1].mark if parts else after


BROKEN = {
    "torn": text(line(7))[:60] + b"\n",
    "torn behind a colon": b'{"message":\n',
    "torn, and the next one in its line": text(line(7))[:60] + text(line(8)),
    "no object": b"123\n",
    "null alone, which crashes Arrow's reader": b"null\n",
    "a list": b"[1, 2]\n",
    "a field of another type": text(line(7, score="high")),
    "a field twice": b'{"key": "1", "key": "2"}\n',
    "no UTF-8": text(line(7)).replace(b"yes", b"\xff\xfe"),
    "zeros, as a power cut leaves them": b"\0" * 40 + b"\n",
    "a number too large": text(line(7)).replace(b"0.0068359375", b"1e999"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("place", [0, 5, 10])
def test_a_broken_line_is_counted_and_takes_no_other_along(log: File, broken: bytes, place: int) -> None:
    good = [text(line(number)) for number in range(10, 20)]
    log.write(*good[:place], broken, *good[place:])

    found, count, mark = read(log)

    assert found == [str(number) for number in range(10, 20)]
    assert count == 1
    assert read(log, mark) == ([], 0, mark)


def test_many_broken_lines_leave_every_good_one(log: File) -> None:
    kinds = list(BROKEN.values())
    for number in range(200):
        log.write(text(line(number)))
        if number % 3 == 0:
            log.write(kinds[number % len(kinds)])

    found, count, _ = read(log)

    assert len(found) == 200
    assert count == 67


def test_other_programs_lines_are_no_predictions_and_not_broken(log: File) -> None:
    log.write(b'{"message": "started"}\n', b"\n", text(line(1)), b"{}\n")
    assert read(log)[:2] == (["1"], 0)


def test_a_last_line_that_is_still_being_written_is_left_until_it_is_whole(log: File) -> None:
    whole = text(line(2))
    log.write(text(line(1)), whole[:50])
    found, broken, mark = read(log)
    assert (found, broken) == (["1"], 0)

    log.write(whole[50:], text(line(3)))

    assert read(log, mark)[:2] == (["2", "3"], 0)


def test_only_what_was_appended_is_read(log: File) -> None:
    log.write(b"broken\n", text(line(1)))
    _, broken, mark = read(log)
    assert broken == 1

    log.write(text(line(2)))

    assert read(log, mark)[:2] == (["2"], 0)


@pytest.mark.parametrize("more", [0, 9])
def test_a_file_in_the_place_of_another_is_read_whole(log: File, more: int) -> None:
    log.append([line(number) for number in range(3)])
    *_, mark = read(log)

    log.path.unlink()
    log.append([line(number) for number in range(50, 51 + more)])

    assert read(log, mark)[0] == [str(number) for number in range(50, 51 + more)]


def test_a_file_that_was_cut_off_is_read_whole(log: File) -> None:
    log.append([line(number) for number in range(3)])
    *_, mark = read(log)

    log.path.write_bytes(text(line(0)))

    assert read(log, mark)[0] == ["0"]


@pytest.mark.parametrize("block", [1, 100, 1000, 10**6])
def test_blocks_of_any_size_hold_every_line_once_and_each_mark_is_a_place_to_begin(log: File, block: int) -> None:
    log.append([line(number) for number in range(10, 40)])
    parts = list(FileLines(log.path, block).parts("payments"))
    found = [row["key"] for part in parts for row in part.lines.to_pylist()]
    assert found == [str(number) for number in range(10, 40)]

    seen = 0
    for part in parts:
        seen += part.lines.num_rows
        assert keys(log.reader().parts("payments", part.mark)) == found[seen:]
