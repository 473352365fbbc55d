"""The emulator, as one process for all tests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Execute = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def execute(repository: Path) -> Iterator[Execute]:
    """Runs a source in the emulator: `execute(source, args, variables, cloud_address)`."""
    python = repository / ".venv-workflows_emulator" / "bin" / "python"
    if not python.exists():
        reason = "there is no .venv-workflows_emulator: call `make test-workflow`, which makes it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    process = subprocess.Popen(
        [str(python), str(Path(__file__).with_name("emulated.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(source: str, args: Any, variables: dict[str, str], cloud: str) -> dict[str, Any]:
        asked = {"source": source, "args": args, "variables": variables, "cloud": cloud}
        print(json.dumps(asked), file=process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        assert "broken" not in answer, answer["broken"]
        return answer

    yield run
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
