"""What every reader of served lines must do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from caudal.served import LINE, Part, ServedLines

MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


def line(number: int, **changes: Any) -> dict[str, Any]:
    """A line as the server writes it."""
    return {
        "severity": "INFO",
        "message": "prediction",
        "contract": "payments",
        "id": f"{number:032x}",
        "key": str(number),
        "event_time": "2026-02-28T23:30:00+00:00",
        "at": (MORNING + timedelta(minutes=number)).isoformat(),
        "score": number / 1024,
        "prediction": "yes",
        "model_version": "v1",
        "arm": "champion",
        "challenger": "v2",
        "share": 0.25,
        "flags": ["missing:amount"],
        **changes,
    }


class Log(Protocol):
    """A log of some kind, to which a test appends as a server would."""

    def append(self, lines: Sequence[dict[str, Any]]) -> None: ...

    def reader(self) -> ServedLines: ...


def rows(parts: Iterator[Part]) -> list[dict[str, Any]]:
    return [row for part in parts for row in part.lines.to_pylist()]


def keys(parts: Iterator[Part]) -> list[str]:
    return sorted(row["key"] for row in rows(parts))


class ServedSuite:
    """Needs the fixture `log`, to which nothing was written."""

    def test_before_the_first_line_there_is_none(self, log: Log) -> None:
        assert list(log.reader().parts("payments")) == []

    def test_a_line_comes_as_it_was_written(self, log: Log) -> None:
        written = line(1, score=0.1234567890123, key="9223372036854775807")
        log.append([written])

        (part,) = log.reader().parts("payments")

        assert part.lines.schema == LINE
        assert part.lines.to_pylist() == [{name: written[name] for name in LINE.names}]
        assert part.broken == 0

    def test_lines_of_other_contracts_are_left(self, log: Log) -> None:
        log.append([line(1), line(2, contract="loans"), line(3)])

        assert keys(log.reader().parts("payments")) == ["1", "3"]
        assert keys(log.reader().parts("loans")) == ["2"]
        assert keys(log.reader().parts("others")) == []

    def test_a_field_that_a_line_does_not_have_is_null(self, log: Log) -> None:
        older = {name: value for name, value in line(1).items() if name not in ("share", "challenger")}
        log.append([older, line(2, key=None)])

        first, second = sorted(rows(log.reader().parts("payments")), key=lambda row: str(row["id"]))

        assert (first["share"], first["challenger"], first["key"]) == (None, None, "1")
        assert (second["share"], second["key"]) == (0.25, None)

    def test_a_field_that_no_line_has_is_null(self, log: Log) -> None:
        log.append([{name: value for name, value in line(1).items() if name not in ("key", "share")}])

        (found,) = rows(log.reader().parts("payments"))

        assert (found["key"], found["share"], found["score"]) == (None, None, 1 / 1024)

    def test_after_a_mark_no_new_line_is_missing(self, log: Log) -> None:
        log.append([line(number) for number in range(1, 4)])
        *_, last = log.reader().parts("payments")
        assert keys(log.reader().parts("payments", last.mark)) in ([], ["1", "2", "3"])

        log.append([line(number) for number in range(4, 7)])

        again = set(keys(log.reader().parts("payments", last.mark)))
        assert {"4", "5", "6"} <= again

    @pytest.mark.parametrize("mark", ["2026-03-01T09:00:00Z", f"{'0' * 32}:7", "anything"])
    def test_with_a_mark_that_is_not_its_own_everything_is_read(self, log: Log, mark: str) -> None:
        log.append([line(1), line(2)])
        if not self.own(mark):
            parts = list(log.reader().parts("payments", mark))
            assert keys(iter(parts)) == ["1", "2"]
            # And from its own mark on it goes on as usual.
            assert self.own(parts[-1].mark)

    @staticmethod
    def own(mark: str) -> bool:
        """Whether a mark looks like one of this reader's."""
        raise NotImplementedError
