"""The documentation holds: links lead somewhere, reference pages are current, commands are ones that run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "data/**/*.md",
        "infra/**/*.md",
        "services/**/*.md",
        "benchmarks/**/*.md",
    )
    for path in REPOSITORY.glob(pattern)
)
CLOUD = "sh cloud"
"""The mark of a block whose commands need a Google Cloud project; docs/deploy.md says so to readers."""


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: what they are marked as, and their text."""
    for match in re.finditer(r"^```(\S[^\n]*)?\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        yield (match[1] or "").strip(), match[2]


def commands(path: Path, mark: str = "sh") -> list[str]:
    """The commands of a page's blocks with this mark, one a line, comments left out."""
    found = []
    for marked, text in blocks(path):
        if marked == mark:
            for line in text.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+#.*$", "", line).strip()
                if command and not command.startswith("#"):
                    found.append(command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_link_of_a_page_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        assert (page.parent / target.split("#")[0]).exists(), target


def test_the_reference_pages_are_current():
    checked = subprocess.run(
        [sys.executable, str(REPOSITORY / "docs" / "generate.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("page", ["contract.md", "environment.md"])
def test_every_key_has_a_meaning(page):
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", (REPOSITORY / "docs" / page).read_text(), re.MULTILINE)
    assert rows
    assert [key for key, meaning in rows if not meaning.strip()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_command_that_a_page_names_is_one_of_ours(page):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for mark in ("sh", CLOUD):
        for command in commands(page, mark):
            words = command.split()
            if words[0] == "make":
                assert [w for w in words[1:] if "=" not in w and not w.startswith("-") and w not in targets] == []
            if words[0] == "caudal":
                assert words[1].startswith("-") or words[1] in COMMANDS, command
