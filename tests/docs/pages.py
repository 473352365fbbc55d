"""The pages of the documentation, and the commands that they tell a reader to call."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
SHELL, CLOUD = "sh", "sh cloud"
"""The marks of blocks with commands. Those of the second need a Google Cloud project; docs/deploy.md says so."""

_FENCE = re.compile(r"^( *)```(\S[^\n]*)?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`((?:caudal|make|python)(?: [^`]*)?)`")


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        text: on one line, without its comment.
        mark: of its block; empty for one that stands in a sentence.
    """

    page: str
    text: str
    mark: str

    @property
    def words(self) -> list[str]:
        """As a shell would part them, without variables that are set in front."""
        words = shlex.split(self.text)
        while re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        return words


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: what they are marked as, and their text."""
    for match in _FENCE.finditer(path.read_text()):
        yield (match[2] or "").strip(), textwrap.dedent(match[3])


def commands(path: Path, mark: str = SHELL) -> list[str]:
    """The commands of a page's blocks with this mark, one a line, comments left out."""
    found = []
    for marked, text in blocks(path):
        if marked == mark:
            for line in text.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+#.*$", "", line).strip()
                if command and not command.startswith("#"):
                    found.append(command)
    return found


def spans(path: Path) -> list[str]:
    """The commands that stand in a page's sentences."""
    prose = _FENCE.sub("", path.read_text())
    return [" ".join(match.split()) for match in _SPAN.findall(prose)]


def every_command() -> list[Command]:
    """What all pages tell a reader to call, each once a page."""
    found = []
    for path in PAGES:
        page = path.relative_to(REPOSITORY).as_posix()
        found += [Command(page, text, mark) for mark in (SHELL, CLOUD) for text in commands(path, mark)]
        found += [Command(page, text, "") for text in spans(path)]
    return list(dict.fromkeys(found))
