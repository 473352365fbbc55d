"""What a unit is built from, and the digest of it.

A unit's content is its folder, libs/caudal and its lock; nothing else can enter its image, since only these files
are put before the builder. Two commits with the same content build the same unit, so it is built once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caudal.errors import UsageError
from caudal.identity import SHORT, digest

Kind = Literal["image", "zip"]

# Tests, declarations and notes are read by people and by the deployment, never by the unit.
_LEFT_OUT_FOLDERS = frozenset({"tests", "__pycache__"})
_LEFT_OUT_FILES = frozenset({"access.yaml", "README.md"})
# A server of another project's making, with none of our code in it.
_WITHOUT_LIBRARY = frozenset({"mlflow_server"})
_ZIPPED = frozenset({"ingest_function"})


@dataclass(frozen=True)
class Unit:
    """One service, as it is built.

    Attributes:
        name: its folder in services/.
        root: the project's folder.
    """

    name: str
    root: Path

    @property
    def kind(self) -> Kind:
        """A container image, or the zip of a Cloud Function."""
        return "zip" if self.name in _ZIPPED else "image"

    @property
    def lock(self) -> Path:
        """The file that pins what the unit installs."""
        return self.root / "requirements" / f"{self.name}.txt"

    def files(self) -> dict[str, Path]:
        """What the unit is built from: files by their names in the project, in order."""
        folders = [self.root / "services" / self.name]
        if self.name not in _WITHOUT_LIBRARY:
            folders.append(self.root / "libs" / "caudal")
        found = [path for folder in folders for path in _files_below(folder)]
        return {path.relative_to(self.root).as_posix(): path for path in sorted([*found, self.lock])}

    def content(self) -> str:
        """The digest of everything that the unit is built from, 64 hexadecimal digits."""
        hashes = [(name, hashlib.sha256(path.read_bytes()).hexdigest()) for name, path in self.files().items()]
        return digest("content", self.name, hashes)


def baked(content: str) -> str:
    """A unit's digest as its image knows it (CAUDAL_UNIT_DIGEST): the identities of models hold the trainer's."""
    return content[:SHORT]


def all_units(root: Path) -> tuple[Unit, ...]:
    """Every unit: a folder in services/ that has a lock and something to build it with."""
    names = sorted(
        folder.name
        for folder in (root / "services").iterdir()
        if (folder / "Dockerfile").is_file() or folder.name in _ZIPPED
    )
    return tuple(Unit(name, root) for name in names)


def choose_units(root: Path, names: tuple[str, ...]) -> tuple[Unit, ...]:
    """The units of these names; all where none is named.

    Raises:
        UsageError: there is no such unit.
    """
    every = {unit.name: unit for unit in all_units(root)}
    unknown = sorted(set(names) - set(every))
    if unknown:
        raise UsageError(f"there is no unit '{unknown[0]}'", where="services/", mend=f"units: {', '.join(every)}")
    return tuple(every[name] for name in (names or every))


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        if (
            path.is_file()
            and not _LEFT_OUT_FOLDERS & set(inner.parts)
            and path.name not in _LEFT_OUT_FILES
            and not path.name.startswith(".")
            and path.suffix != ".pyc"
        ):
            yield path
