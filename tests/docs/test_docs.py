"""The documentation holds: links lead somewhere, every page is found, reference pages are current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, REPOSITORY


def links(page: Path) -> list[Path]:
    """Where a page's links within the project lead."""
    return [
        (page.parent / target.split("#")[0]).resolve()
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if "://" not in target and not target.startswith(("#", "mailto:"))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_link_of_a_page_leads_to_a_file(page):
    assert [target for target in links(page) if not target.exists()] == []


def test_every_page_is_found_from_the_readme():
    found: set[Path] = set()
    ahead = [REPOSITORY / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in found:
            found.add(page)
            # A link to a folder shows the pages in it.
            ahead += [p for t in links(page) for p in (t.glob("*.md") if t.is_dir() else [t]) if p.suffix == ".md"]
    assert [page.relative_to(REPOSITORY).as_posix() for page in PAGES if page not in found] == []


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
