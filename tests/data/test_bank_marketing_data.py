"""The sample data set that ships: what it holds, and the script that makes it from either of two sources."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "data" / "bank_marketing"
SHIPPED = FOLDER / "bank_marketing.csv.gz"
SCRIPT = FOLDER / "make_data.py"

NUMERIC = {"age", "balance", "day", "duration", "campaign", "pdays", "previous"}
UCI_HEADER = [
    *("age", "job", "marital", "education", "default", "balance", "housing", "loan", "contact"),
    *("day", "month", "duration", "campaign", "pdays", "previous", "poutcome", "y"),
]
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]

# UCI's bank-full.csv as others have recorded it: the DVC pointers data/raw/bank-full.csv.dvc of the GitHub
# repositories jyotinayak1976/wip-bank-marketing-data (commit 7525b2a) and vieer-dwivedi/AI (commit 341fd2b).
UCI_FILE_BYTES = 4_610_348
UCI_FILE_MD5 = "e6b0ca77f3f200ec5428e04dd104da53"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bank_marketing_make_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_data = load_script()


@pytest.fixture(scope="module")
def content() -> bytes:
    return gzip.decompress(SHIPPED.read_bytes())


@pytest.fixture(scope="module")
def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.fixture(scope="module")
def source_rows(rows: list[dict[str, str]]) -> list[list[str]]:
    """The rows as UCI has them, with day and month again, from the shipped file."""
    found = []
    for row in rows:
        when = date.fromisoformat(row["contact_date"])
        original = {**row, "day": str(when.day), "month": MONTHS[when.month - 1]}
        found.append([original[column] for column in UCI_HEADER])
    return found


def uci_csv(rows: Sequence[Sequence[str]]) -> bytes:
    """bank-full.csv as UCI writes it: semicolons, text in quotes, numbers bare."""
    lines = [";".join(f'"{column}"' for column in UCI_HEADER)]
    for row in rows:
        values = zip(UCI_HEADER, row, strict=True)
        lines.append(";".join(value if column in NUMERIC else f'"{value}"' for column, value in values))
    return ("\n".join(lines) + "\n").encode()


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


def nested_uci_zip(csv_file: bytes) -> bytes:
    bank = zip_of(**{"bank-full.csv": csv_file, "bank.csv": b"the tenth", "bank-names.txt": b"the words"})
    return zip_of(**{"bank.zip": bank, "bank-additional.zip": zip_of(**{"other.csv": b"1"})})


SaveZip = Callable[[bytes], str]


@pytest.fixture
def save_zip(tmp_path: Path) -> SaveZip:
    def save(archive: bytes) -> str:
        path = tmp_path / "bank+marketing.zip"
        path.write_bytes(archive)
        return path.as_uri()

    return save


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder / "bank_marketing.csv.gz"


# What ships


def test_the_shipped_rows_are_the_pinned_ones(content: bytes) -> None:
    assert hashlib.sha256(content).hexdigest() == make_data.CONTENT_SHA256


def test_the_shipped_rows_are_those_of_ucis_own_file_byte_for_byte(source_rows: list[list[str]]) -> None:
    rebuilt = uci_csv(source_rows)

    assert len(rebuilt) == UCI_FILE_BYTES
    assert hashlib.md5(rebuilt, usedforsecurity=False).hexdigest() == UCI_FILE_MD5


def test_all_contacts_are_there_and_as_many_said_yes_as_uci_reports(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 45_211
    assert sum(row["y"] == "yes" for row in rows) == 5_289


def test_the_columns_are_the_original_ones_with_the_date_for_day_and_month(
    rows: list[dict[str, str]],
) -> None:
    originals = [column for column in UCI_HEADER if column not in ("day", "month")]

    assert list(rows[0]) == ["contact_id", "contact_date", *originals]


def test_contacts_are_numbered_from_one_in_their_original_order(rows: list[dict[str, str]]) -> None:
    assert [int(row["contact_id"]) for row in rows] == list(range(1, 45_212))


def test_the_dates_never_go_back_and_span_the_campaigns(rows: list[dict[str, str]]) -> None:
    dates = [date.fromisoformat(row["contact_date"]) for row in rows]

    assert dates == sorted(dates)
    assert dates[0] == date(2008, 5, 5)
    assert dates[-1] == date(2010, 11, 17)
    assert len(set(dates)) == 561


def test_only_2008_as_the_first_year_puts_the_calls_on_working_days(rows: list[dict[str, str]]) -> None:
    dates = [date.fromisoformat(row["contact_date"]) for row in rows]
    month_days = [(when.month, when.day) for when in dates]

    def weekend_calls(first_year: int) -> int:
        return sum(when.weekday() >= 5 for when in make_data.roll_years(month_days, first_year))

    assert weekend_calls(2008) == 50
    assert min(weekend_calls(year) for year in (2004, 2005, 2006, 2007, 2009, 2010, 2011, 2012)) > 8_000


def test_no_value_is_empty(rows: list[dict[str, str]]) -> None:
    assert all(value != "" for row in rows for value in row.values())


def test_the_gzip_header_carries_neither_time_nor_name() -> None:
    header = SHIPPED.read_bytes()[:10]

    # RFC 1952: magic, deflate, no flags (hence no name), time 0, slowest compression, unknown system
    assert header == b"\x1f\x8b\x08\x00" + b"\x00\x00\x00\x00" + b"\x02\xff"


# The rule of the dates


def test_the_year_moves_on_whenever_month_and_day_go_back() -> None:
    month_days = [(5, 5), (5, 5), (5, 6), (12, 31), (1, 2), (1, 2), (11, 17), (11, 16), (2, 1)]

    assert [when.isoformat() for when in make_data.roll_years(month_days, 2008)] == [
        "2008-05-05",
        "2008-05-05",
        "2008-05-06",
        "2008-12-31",
        "2009-01-02",
        "2009-01-02",
        "2009-11-17",
        "2010-11-16",
        "2011-02-01",
    ]


def test_rows_out_of_order_that_give_a_date_which_does_not_exist_are_refused(
    source_rows: list[list[str]],
) -> None:
    def dated(day: str, month: str) -> list[str]:
        return [
            {"day": day, "month": month}.get(column, value)
            for column, value in zip(UCI_HEADER, source_rows[0], strict=True)
        ]

    assert make_data.make_csv([dated("29", "feb")], "leap").count(b"2008-02-29") == 1
    with pytest.raises(make_data.SourceLayoutError, match=r"backwards: row 3 has no valid day and month"):
        make_data.make_csv([dated("5", "may"), dated("6", "may"), dated("29", "feb")], "backwards")
    with pytest.raises(make_data.SourceLayoutError, match=r"words: row 1 has no valid day and month"):
        make_data.make_csv([dated("5", "maio")], "words")


# From UCI's zip


def test_ucis_zip_gives_the_shipped_rows(
    source_rows: list[list[str]], content: bytes, save_zip: SaveZip, output: Path
) -> None:
    url = save_zip(nested_uci_zip(uci_csv(source_rows)))

    assert make_data.main(["--from-url", url, "--output", str(output)]) == 0

    assert gzip.decompress(output.read_bytes()) == content
    assert list(output.parent.iterdir()) == [output]


def test_the_inner_zip_alone_will_do(
    source_rows: list[list[str]], content: bytes, save_zip: SaveZip, output: Path
) -> None:
    url = save_zip(zip_of(**{"bank-full.csv": uci_csv(source_rows)}))

    assert make_data.main(["--from-url", url, "--output", str(output)]) == 0

    assert gzip.decompress(output.read_bytes()) == content


def test_making_it_twice_gives_the_same_bytes_whatever_the_file_is_called(
    source_rows: list[list[str]], save_zip: SaveZip, output: Path
) -> None:
    url = save_zip(nested_uci_zip(uci_csv(source_rows)))
    other = output.with_name("other.gz")

    assert make_data.main(["--from-url", url, "--output", str(output)]) == 0
    assert make_data.main(["--from-url", url, "--output", str(other)]) == 0

    assert output.read_bytes() == other.read_bytes()
    assert output.read_bytes()[:10] == SHIPPED.read_bytes()[:10]


def one_value_changed(rows: list[list[str]]) -> bytes:
    changed = [list(row) for row in rows]
    changed[30_000][0] = str(int(changed[30_000][0]) + 1)
    return uci_csv(changed)


def two_rows_of_a_day_swapped(rows: list[list[str]]) -> bytes:
    return uci_csv([rows[1], rows[0], *rows[2:]])


def last_row_lost(rows: list[list[str]]) -> bytes:
    return uci_csv(rows[:-1])


@pytest.mark.parametrize("change", [one_value_changed, two_rows_of_a_day_swapped, last_row_lost])
def test_rows_other_than_the_pinned_ones_are_refused_and_nothing_is_written(
    change: Callable[[list[list[str]]], bytes],
    source_rows: list[list[str]],
    save_zip: SaveZip,
    output: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = save_zip(nested_uci_zip(change(source_rows)))

    assert make_data.main(["--from-url", url, "--output", str(output)]) == 1

    error = capsys.readouterr().err
    assert url in error
    assert make_data.CONTENT_SHA256 in error
    assert "mend: " in error
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("archive", "complaint"),
    [
        (b"<html>not found</html>", "not a zip file"),
        (zip_of(**{"bank-additional.zip": b""}), "bank-full.csv"),
        (zip_of(**{"bank.zip": b"not a zip"}), "not a zip file"),
        (zip_of(**{"bank.zip": zip_of(**{"bank.csv": b"a"})}), "bank-full.csv"),
        (zip_of(**{"bank-full.csv": b"age,job\n1,2\n"}), "the header is ['age,job']"),
        (zip_of(**{"bank-full.csv": b""}), "the header is []"),
        (zip_of(**{"bank-full.csv": uci_csv([]) + b"58;management\n"}), "line 2: 2 values, not 17"),
        (zip_of(**{"bank-full.csv": b"\xff\xfe"}), "utf-8"),
        (nested_uci_zip(uci_csv([]) + b'58;"manage')[:-200], "not a zip file"),
        (zip_of(**{"bank-full.csv": uci_csv([]) + b'58;"manage'}), "unexpected end of data"),
    ],
)
def test_a_zip_laid_out_otherwise_is_refused_and_the_good_file_stays(
    archive: bytes, complaint: str, save_zip: SaveZip, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.write_bytes(b"the good one")

    assert make_data.main(["--from-url", save_zip(archive), "--output", str(output)]) == 1

    error = capsys.readouterr().err
    assert complaint in error
    assert "mend: " in error
    assert output.read_bytes() == b"the good one"
    assert list(output.parent.iterdir()) == [output]


def test_a_file_far_too_large_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch, save_zip: SaveZip, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_data, "MAX_BYTES", 1_000_000)
    url = save_zip(zip_of(**{"bank-full.csv": bytes(1_000_001)}))

    assert make_data.main(["--from-url", url, "--output", str(output)]) == 1

    assert "larger than 1000000 bytes" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("url", ["http://example.com/bank.zip", "ftp://example.com/bank.zip", "bank.zip"])
def test_an_address_that_is_neither_https_nor_a_file_is_refused(url: str) -> None:
    with pytest.raises(make_data.SourceUnavailableError, match="neither an https: nor a file: URL"):
        make_data.fetch(url)


def test_an_address_that_is_none_is_an_error_with_a_mend() -> None:
    with pytest.raises(make_data.SourceUnavailableError, match="could not be fetched"):
        make_data.fetch("https://[bank.zip")


def test_an_address_with_nothing_behind_it_is_an_error_with_a_mend(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = (tmp_path / "absent.zip").as_uri()

    assert make_data.main(["--from-url", url, "--output", str(output)]) == 1

    error = capsys.readouterr().err
    assert f"{url} could not be fetched" in error
    assert "mend: " in error


# From the wheel


def packed_rows(numbered: Sequence[tuple[int, list[str]]]) -> bytes:
    """One of the wheel's files: an unnamed row number first, commas, and another name for the label."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *UCI_HEADER[:-1], "deposit"])
    writer.writerows([number, *row] for number, row in numbered)
    return gzip.compress(text.getvalue().encode())


def wheel_of(train: bytes, test: bytes) -> bytes:
    """As much of the wheel as pip and the script look at."""
    info = "hypergbm-0.3.2.dist-info"
    return zip_of(
        **{
            "hypergbm/examples/datasets/Bank/train.csv.gz": train,
            "hypergbm/examples/datasets/Bank/test.csv.gz": test,
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: hypergbm\nVersion: 0.3.2\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
    )


def run_with_pip_offline(output: Path, links: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(SCRIPT), "--output", str(output)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this environment has no pip")


@needs_pip
def test_the_wheel_gives_the_shipped_rows_although_it_splits_and_shuffles_them(
    source_rows: list[list[str]], content: bytes, tmp_path: Path, output: Path
) -> None:
    numbered = list(enumerate(source_rows))
    random.Random(0).shuffle(numbered)
    wheel = wheel_of(packed_rows(numbered[:36_168]), packed_rows(numbered[36_168:]))
    (tmp_path / "hypergbm-0.3.2-py3-none-any.whl").write_bytes(wheel)

    run = run_with_pip_offline(output, links=tmp_path)

    assert run.returncode == 0, run.stderr
    assert gzip.decompress(output.read_bytes()) == content
    assert list(output.parent.iterdir()) == [output]


@needs_pip
def test_a_wheel_that_pip_cannot_find_is_an_error_with_a_mend(tmp_path: Path, output: Path) -> None:
    run = run_with_pip_offline(output, links=tmp_path)

    assert run.returncode == 1
    assert "pip could not download hypergbm==0.3.2" in run.stderr
    assert "mend: " in run.stderr
    assert "Traceback" not in run.stderr
    assert not output.exists()


def test_a_python_without_pip_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(make_data.SourceUnavailableError, match="has no pip") as caught:
        make_data.download_wheel(tmp_path)

    assert "ensurepip" in caught.value.mend


@pytest.mark.parametrize("numbers", [(0, 2), (1, 2), (0, 0)])
def test_a_wheel_with_a_row_missing_or_twice_is_refused(
    numbers: tuple[int, int], source_rows: list[list[str]], tmp_path: Path
) -> None:
    train, test = (packed_rows([(number, source_rows[0])]) for number in numbers)
    wheel = tmp_path / "hypergbm-0.3.2-py3-none-any.whl"
    wheel.write_bytes(wheel_of(train, test))

    with pytest.raises(make_data.SourceLayoutError, match="row number"):
        make_data.rows_of_wheel(wheel)


def test_a_wheel_without_the_data_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "hypergbm-0.3.2-py3-none-any.whl"
    wheel.write_bytes(zip_of(**{"hypergbm/__init__.py": b""}))

    with pytest.raises(make_data.SourceLayoutError, match=r"Bank/train\.csv\.gz"):
        make_data.rows_of_wheel(wheel)


def test_a_wheel_with_a_torn_file_is_refused(source_rows: list[list[str]], tmp_path: Path) -> None:
    whole = packed_rows(list(enumerate(source_rows[:100])))
    wheel = tmp_path / "hypergbm-0.3.2-py3-none-any.whl"
    wheel.write_bytes(wheel_of(whole[:-100], whole))

    with pytest.raises(make_data.SourceLayoutError, match=r"train\.csv\.gz could not be read"):
        make_data.rows_of_wheel(wheel)


# Writing and checking


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    output.write_bytes(b"the good one")
    monkeypatch.setattr(os, "fsync", disk_full)

    with pytest.raises(make_data.OutputError, match="No space left on device"):
        make_data.write(b"the new one", output)

    assert output.read_bytes() == b"the good one"
    assert list(output.parent.iterdir()) == [output]


def test_a_folder_that_does_not_exist_is_an_error_with_a_mend(tmp_path: Path) -> None:
    with pytest.raises(make_data.OutputError, match="could not be written"):
        make_data.write(b"", tmp_path / "absent" / "file.gz")


def test_the_shipped_file_passes_its_check_from_the_command_line() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, timeout=60)

    assert run.returncode == 0, run.stderr
    assert make_data.CONTENT_SHA256 in run.stdout


def test_the_check_refuses_a_changed_a_torn_and_an_absent_file(
    content: bytes, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["--check", "--output", str(output)]

    assert make_data.main(check) == 1
    assert "could not be read" in capsys.readouterr().err

    output.write_bytes(gzip.compress(content.replace(b",yes\n", b",no\n", 1)))
    assert make_data.main(check) == 1
    assert "differ from the pinned data set" in capsys.readouterr().err

    output.write_bytes(SHIPPED.read_bytes()[:100_000])
    assert make_data.main(check) == 1
    assert "could not be read" in capsys.readouterr().err


def test_the_check_takes_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        make_data.main(["--check", "--from-url"])

    assert exit_.value.code == 2
    assert "leave out --from-url" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["README.md", "LICENSE"])
def test_the_attribution_that_the_licence_asks_for_stands_beside_the_data(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")

    for wanted in (
        "Moro",
        "Cortez",
        "Rita",
        "10.24432/C5K306",
        "https://creativecommons.org/licenses/by/4.0/",
        "contact_date",
    ):
        assert wanted in text


def test_the_readme_states_the_pinned_hash() -> None:
    assert make_data.CONTENT_SHA256 in (FOLDER / "README.md").read_text(encoding="utf-8")
