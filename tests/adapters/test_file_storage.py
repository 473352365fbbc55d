"""Storage on a laptop passes the suites, and what is particular to files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caudal.storage import Storage, join
from caudal.storage.files import FileStorage, file_path, file_uri
from tests.contract_suites.ledger import FolderSuite, LedgerSuite
from tests.contract_suites.storage import StorageSuite


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return FileStorage(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return file_uri(tmp_path / "a folder" / "x%20#?y")


class TestFileStorage(StorageSuite):
    pass


class TestLedgerOnFiles(LedgerSuite):
    pass


class TestFoldersOnFiles(FolderSuite):
    pass


@pytest.mark.parametrize("name", ["plain", "a b", "ü", "100%", "%41", "a#b", "q?x=1", "a&b=c;d", "tab\there"])
def test_a_uri_names_the_path_that_it_was_made_from(tmp_path: Path, name: str) -> None:
    assert file_path(file_uri(tmp_path / name)) == tmp_path / name


def test_an_objects_name_does_not_depend_on_where_the_root_lies(tmp_path: Path) -> None:
    described = []
    for root in (tmp_path / "one", tmp_path / "two"):
        storage = FileStorage(root)
        storage.write(file_uri(root / "landing" / "x.csv"), b"1")
        described.append(storage.describe(file_uri(root / "landing" / "x.csv")))

    assert described[0].name == described[1].name == "landing/x.csv"
    assert described[0].generation == described[1].generation


def test_a_file_landed_when_its_modification_time_says(storage: Storage, folder: str) -> None:
    storage.write(join(folder, "x"), b"1")
    moment = datetime(2008, 5, 5, 10, tzinfo=UTC)
    os.utime(file_path(join(folder, "x")), (moment.timestamp(), moment.timestamp()))

    assert storage.describe(join(folder, "x")).landed_at == moment


def test_a_copy_with_the_same_content_is_the_same_generation(storage: Storage, folder: str) -> None:
    storage.write(join(folder, "x"), b"1")
    first = storage.describe(join(folder, "x")).generation
    storage.write(join(folder, "x"), b"1")

    assert storage.describe(join(folder, "x")).generation == first


@pytest.mark.parametrize("act", ["create", "write"])
def test_a_process_killed_while_it_writes_leaves_no_object(tmp_path: Path, act: str) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from caudal.storage.files import FileStorage
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        FileStorage(Path({str(tmp_path)!r})).{act}({file_uri(tmp_path / "x")!r}, b"half")
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    storage = FileStorage(tmp_path)
    assert not storage.exists(file_uri(tmp_path / "x"))
    assert list(storage.objects(file_uri(tmp_path))) == []
    storage.create(file_uri(tmp_path / "x"), b"whole")
    assert storage.read(file_uri(tmp_path / "x")) == b"whole"
