#!/usr/bin/env python3
"""Make ``bank_marketing.csv.gz``, the sample data set, from one of two public copies of the same file.

By default the rows come out of the wheel ``hypergbm==0.3.2``, which carries the data set as an example. pip
downloads the wheel, and it is read as a zip file: it is never installed, and none of its code runs. With
``--from-url`` they come from the zip file that the UCI Machine Learning Repository publishes.

Both copies must give the same bytes: the SHA-256 of the CSV is pinned below, and nothing is written unless it
matches. The standard library is enough to run this, with any Python from 3.11 on.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import http.client
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import IO

CONTENT_SHA256 = "8f8f594c5024c6cc083a49d35698b1278eaf13aee84127cceb21dbbbb6d6150f"
"""SHA-256 of the CSV, decompressed."""

UCI_URL = "https://archive.ics.uci.edu/static/public/222/bank+marketing.zip"
"""Where UCI publishes the data set: a zip that holds ``bank.zip``, which holds ``bank-full.csv``."""

REQUIREMENT = "hypergbm==0.3.2"
WHEEL_FOLDER = "hypergbm/examples/datasets/Bank"
WHEEL_LABEL = "deposit"  # the wheel's name for the last column

SOURCE_COLUMNS = (
    "age", "job", "marital", "education", "default", "balance", "housing", "loan", "contact",
    "day", "month", "duration", "campaign", "pdays", "previous", "poutcome", "y",
)  # fmt: skip
REPLACED_COLUMNS = ("day", "month")  # contact_date says the same, and the year besides
KEPT_COLUMNS = tuple(column for column in SOURCE_COLUMNS if column not in REPLACED_COLUMNS)
COLUMNS = ("contact_id", "contact_date", *KEPT_COLUMNS)

FIRST_YEAR = 2008  # UCI: "ordered by date (from May 2008 to November 2010)"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

MAX_BYTES = 64 * 1024 * 1024  # more than ten times the largest file expected: a larger one is not this data set
URL_TIMEOUT_S = 60
PIP_TIMEOUT_S = 600

OUTPUT = Path(__file__).resolve().with_name("bank_marketing.csv.gz")


class DataError(Exception):
    """What is wrong and where, and what mends it."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(f"{problem}\n  mend: {mend}")
        self.problem = problem
        self.mend = mend


class SourceUnavailableError(DataError):
    """The source could not be fetched."""


class SourceLayoutError(DataError):
    """The source was fetched, but is not laid out as this script expects."""


class ContentMismatchError(DataError):
    """The rows are not the pinned ones."""


class OutputError(DataError):
    """The file could not be written or read back."""


def roll_years(month_days: Iterable[tuple[int, int]], first_year: int = FIRST_YEAR) -> Iterator[date]:
    """Give (month, day) pairs that are in order of time their year: it moves on by one whenever they go back.

    Raises ValueError where that gives a date that does not exist.
    """
    year, previous = first_year, (0, 0)
    for month_day in month_days:
        if month_day < previous:
            year += 1
        previous = month_day
        yield date(year, *month_day)


def make_csv(rows: Sequence[Sequence[str]], where: str) -> bytes:
    """The shipped CSV, from rows of ``SOURCE_COLUMNS`` in their original order.

    ``where`` names the source in errors. Raises SourceLayoutError where a row gives no valid date.
    """
    day_at, month_at = (SOURCE_COLUMNS.index(column) for column in REPLACED_COLUMNS)
    kept_at = [SOURCE_COLUMNS.index(column) for column in KEPT_COLUMNS]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    number = 0
    try:
        dates = roll_years((MONTHS.index(row[month_at]) + 1, int(row[day_at])) for row in rows)
        for number, (row, contact_date) in enumerate(zip(rows, dates, strict=True), start=1):
            writer.writerow([number, contact_date.isoformat(), *(row[at] for at in kept_at)])
    except ValueError as error:
        raise SourceLayoutError(
            f"{where}: row {number + 1} has no valid day and month: {error}",
            f"take the unchanged file from UCI ({UCI_URL}); the rows must be in their original order",
        ) from error
    return text.getvalue().encode()


def rows_of_wheel(wheel: Path) -> list[list[str]]:
    """The rows of ``SOURCE_COLUMNS`` in their original order, from the wheel.

    There they are split at random into two files. The first column, without a name, is the original row
    number, from 0. Raises SourceLayoutError where the files or the row numbers are not so.
    """
    mend = f"let this script download {REQUIREMENT} itself, or use --from-url"
    rows: list[tuple[int, list[str]]] = []
    for name in ("train", "test"):
        member = f"{WHEEL_FOLDER}/{name}.csv.gz"
        where = f"{wheel.name}/{member}"
        with _reading(where, mend), zipfile.ZipFile(wheel) as archive, archive.open(member) as packed:
            with gzip.open(packed) as plain:
                text = _read_bounded(plain, where).decode()
            header = ("", *SOURCE_COLUMNS[:-1], WHEEL_LABEL)
            rows += ((int(row[0]), row[1:]) for row in _parse(text, ",", header, where, mend))
    rows.sort()
    if [number for number, _ in rows] != list(range(len(rows))):
        raise SourceLayoutError(f"{wheel.name}: the row numbers are not 0 to {len(rows) - 1}, each once", mend)
    return [row for _, row in rows]


def rows_of_uci_zip(content: bytes, where: str) -> list[list[str]]:
    """The rows of ``SOURCE_COLUMNS``, from UCI's zip or from the ``bank.zip`` within it.

    Raises SourceLayoutError where the zip or the CSV in it is laid out otherwise.
    """
    mend = f"the zip must hold bank-full.csv, or a bank.zip that holds it, as {UCI_URL} does"
    with _reading(where, mend):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            nested = "bank.zip" in archive.namelist()
            with archive.open("bank.zip" if nested else "bank-full.csv") as member:
                content = _read_bounded(member, where)
        if nested:
            with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open("bank-full.csv") as member:
                content = _read_bounded(member, where)
        return list(_parse(content.decode(), ";", SOURCE_COLUMNS, f"{where}: bank-full.csv", mend))


def download_wheel(folder: Path) -> Path:
    """Let pip download the wheel into ``folder``: no dependencies, no source archive, nothing installed.

    Raises SourceUnavailableError.
    """
    mend = "see pip's message above; pip needs its usual access to a package index. Or use --from-url"
    if importlib.util.find_spec("pip") is None:
        raise SourceUnavailableError(
            f"{sys.executable} has no pip",
            "run this with a Python that has it, or add it with `python -m ensurepip`, or use --from-url",
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += [
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        os.fspath(folder),
        REQUIREMENT,
    ]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PIP_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise SourceUnavailableError(f"pip could not download {REQUIREMENT}: {error}", mend) from error
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceUnavailableError(f"pip left {len(wheels)} wheels for {REQUIREMENT}, not 1", mend)
    return wheels[0]


def fetch(url: str) -> bytes:
    """The bytes at an ``https:`` or ``file:`` URL. Raises SourceUnavailableError."""
    mend = "check the address and the network, or save the zip yourself and pass its file:// URL"
    try:
        if urllib.parse.urlsplit(url).scheme not in ("https", "file"):
            raise SourceUnavailableError(f"{url} is neither an https: nor a file: URL", mend)
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as response:
            return _read_bounded(response, url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceUnavailableError(f"{url} could not be fetched: {error}", mend) from error


def check(content: bytes, where: str) -> None:
    """Raise ContentMismatchError unless ``content`` (the CSV, decompressed) is the pinned one."""
    found = hashlib.sha256(content).hexdigest()
    if found != CONTENT_SHA256:
        raise ContentMismatchError(
            f"{where}: the rows differ from the pinned data set (SHA-256 {found}, not {CONTENT_SHA256})",
            "make it again, if need be from the other source; if both differ, the publisher has changed "
            "the data, and the pin, the README and the contract need a review before it ships",
        )


def write(content: bytes, path: Path) -> None:
    """Compress ``content`` to ``path`` in one step: a reader sees the old file or the whole new one.

    The gzip header carries neither time nor name, so that equal content gives equal bytes (with one version
    of zlib). Raises OutputError; the old file is then still there.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    try:
        try:
            with aside.open("wb") as file:
                with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed:
                    packed.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error}", "give a writable place by --output") from error


def read(path: Path) -> bytes:
    """The CSV in ``path``, decompressed. Raises OutputError."""
    try:
        with gzip.open(path) as file:
            return _read_bounded(file, os.fspath(path))
    except (OSError, EOFError, zlib.error) as error:
        raise OutputError(
            f"{path} could not be read: {error}", "make it again: run this without --check"
        ) from error


def make(from_url: str | None = None) -> bytes:
    """The shipped CSV, from the wheel or from a URL of UCI's zip, checked against the pin."""
    if from_url is not None:
        rows, where = rows_of_uci_zip(fetch(from_url), from_url), from_url
    else:
        with tempfile.TemporaryDirectory(prefix="bank_marketing-") as folder:
            rows, where = rows_of_wheel(download_wheel(Path(folder))), REQUIREMENT
    content = make_csv(rows, where)
    check(content, where)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line. Returns the exit status: 0, or 1 with the problem and its mend on stderr."""
    parser = argparse.ArgumentParser(description="Make the sample data set bank_marketing.csv.gz, or check it.")
    parser.add_argument(
        "--from-url",
        nargs="?",
        const=UCI_URL,
        metavar="URL",
        help=f"read UCI's zip from this https: or file: URL instead of the wheel (default: {UCI_URL})",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the file (default: beside this script)")
    parser.add_argument("--check", action="store_true", help="only check that the file holds the pinned rows")
    options = parser.parse_args(arguments)
    if options.check and options.from_url:
        parser.error("--check needs no source: leave out --from-url")
    try:
        if options.check:
            check(read(options.output), os.fspath(options.output))
        else:
            write(make(options.from_url), options.output)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: the pinned rows (SHA-256 {CONTENT_SHA256})")
    return 0


@contextmanager
def _reading(where: str, mend: str) -> Iterator[None]:
    """Raise SourceLayoutError for what the readers of zip, gzip, UTF-8 and CSV raise on a bad file."""
    try:
        yield
    except KeyError as error:  # zipfile's "There is no item named ..."
        raise SourceLayoutError(f"{where}: {error.args[0]}", mend) from error
    # RuntimeError: an encrypted member or an unknown compression
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, csv.Error, RuntimeError) as error:
        raise SourceLayoutError(f"{where} could not be read: {error}", mend) from error


def _read_bounded(stream: IO[bytes] | gzip.GzipFile, where: str) -> bytes:
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SourceLayoutError(
            f"{where} is larger than {MAX_BYTES} bytes", f"it is not the data set that {UCI_URL} holds"
        )
    return content


def _parse(text: str, delimiter: str, header: Sequence[str], where: str, mend: str) -> Iterator[list[str]]:
    """The rows below the header, which must be ``header``; each row must have as many values."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = next(reader, [])
    if found != list(header):
        raise SourceLayoutError(f"{where}: the header is {found}, not {list(header)}", mend)
    for row in reader:
        if len(row) != len(header):
            raise SourceLayoutError(f"{where}, line {reader.line_num}: {len(row)} values, not {len(header)}", mend)
        yield row


if __name__ == "__main__":
    sys.exit(main())
