"""A real browser without network: Debian's chromium, headless."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Browse = Callable[..., str]


@pytest.fixture
def browser(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Calls chromium with further flags; CI must have it, a laptop may lack it."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs chromium: apt-get install chromium")
        pytest.skip("there is no chromium; install it to see the report in a browser")

    def call(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'browser'}", *flags,
            ],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip

    return call
