"""One replay of the shipped data, made once and looked at by many tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CONTRACT = "bank_marketing"


@dataclass(frozen=True)
class Replayed:
    """A replay's folder, its summary and what the command printed."""

    folder: Path
    summary: dict[str, Any]
    output: str

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def figures(self) -> dict[str, Any]:
        """The summary without what only tells of time."""
        return {name: value for name, value in self.summary.items() if not name.startswith("seconds")}

    def versions(self) -> list[str]:
        """The models that were promoted, in order."""
        ledger = sorted((self.folder / "artifacts" / "ledger" / CONTRACT / "promotions").glob("*.json"))
        return [json.loads(entry.read_text())["version"] for entry in ledger]


Start = Callable[..., "subprocess.Popen[str]"]


def start(repository: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts `caudal replay` as a process of its own."""
    paths = os.pathsep.join(str(repository / part) for part in ("libs", "services", "."))
    environment = {**os.environ, "PYTHONPATH": paths, "NO_COLOR": "1", "COLUMNS": "160"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "replay", CONTRACT, "--root", str(folder), *arguments],
        cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def replay(repository: Path, folder: Path, *arguments: str) -> Replayed:
    """Replays to the end."""
    process = start(repository, folder, *arguments)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return Replayed(folder, json.loads((folder / "summary.json").read_text()), output)


@pytest.fixture(scope="session")
def replayed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The replay of the shipped data."""
    return replay(repository, tmp_path_factory.mktemp("replay") / CONTRACT)
