"""docs/serving.md: its commands do what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caudal.environment import Environment
from caudal.package import ModelPackage
from serving.app import create_app
from tests.docs.pages import blocks, commands


@pytest.fixture(scope="module")
def page(repository: Path) -> Path:
    return repository / "docs" / "serving.md"


@pytest.fixture(scope="module")
def address(
    repository: Path, page: Path, bank_environment: Environment, bank_package: ModelPackage
) -> Iterator[str]:
    """The address that the guide's own command serves at, on a free port and in the tests' folder."""
    (command,) = [line for line in commands(page) if line.startswith("caudal serve")]
    running = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *command.split()[1:], "--port", "0",
         "--root", str(bank_environment.root_path)],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(repository / p) for p in ("libs", "services", "."))},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert running.stderr is not None
    said = running.stderr.readline()
    try:
        match = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert match, said
        yield match[0]
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) in (0, 130)
    finally:
        running.kill()
        running.communicate()


def test_the_guides_requests_are_answered_as_it_says(page: Path, address: str, tmp_path: Path) -> None:
    examples = [text for mark, text in blocks(page) if mark == "json"]
    (tmp_path / "row.json").write_text(examples[0])
    answers = []
    for command in [line for line in commands(page) if line.startswith("curl")]:
        line = command.replace("http://127.0.0.1:8080", address)
        answers.append(json.loads(answered(line, tmp_path)))
    plain, explained, live = answers
    assert plain["key"] == json.loads(examples[0])["contact_id"]
    assert plain["flags"] == []
    assert explained["score"] == plain["score"]
    assert len(explained["reasons"]) == 3
    assert live["champion"]["version"] == plain["model_version"]


def answered(command: str, folder: Path) -> str:
    """What a command says, once the server listens."""
    end = time.monotonic() + 60
    while True:
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
        # 7: the connection was refused.
        if done.returncode != 7:
            assert done.returncode == 0, done.stderr
            return done.stdout
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_guide_names_every_address_and_no_other(
    page: Path, bank_environment: Environment, bank_package: ModelPackage, bank_storage: Any
) -> None:
    app = create_app(bank_package.contract, bank_environment, bank_storage)
    served = {route.path for route in app.routes}  # type: ignore[attr-defined]
    named = set(re.findall(r"`(?:GET|POST) (/[^`]*)`", page.read_text()))
    assert named == served - {"/"}


def test_the_row_with_keys_of_entities_is_one_that_the_contract_takes(page: Path, repository: Path) -> None:
    from caudal.contract import load_contract
    from caudal.package import Encoder
    from serving.instances import InstanceReader

    contract = load_contract(repository / "contracts" / "wallet.yaml")
    example = [text for mark, text in blocks(page) if mark == "json"][1]
    instance = InstanceReader(contract, Encoder.of(contract, {}), {}, batch=1).one(example.encode())
    assert set(instance.entities) == {window.entity for window in contract.features.windows}
