"""What each unit says that it touches: `services/<unit>/access.yaml`.

The declaration lies beside the code that it speaks of, so that a reviewer sees both in one change, and a new unit
brings its own. It names places, never buckets, roles or accounts: those follow from it.

    access: 1
    reads: [landing, config]
    writes: [lake, staging]
    calls: [mlflow_server]

What writes a place may read it. Places are the buckets and folders that an environment names, and the data sets of
the warehouse; `database` is the tracking server's. `model_registry` is Vertex AI's, where the environment has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from caudal.errors import CaudalError, Problem, ProblemsFound
from caudal.yaml_document import MalformedYaml, Section, problems_from, read_document

Bucket = Literal["landing", "models", "mlflow", "temp", "releases"]
Folder = Literal["config", "ledger", "quarantine", "runs", "snapshots", "staging", "states", "units"]
Dataset = Literal["lake", "warehouse", "predictions", "monitoring"]
Place = Bucket | Folder | Dataset | Literal["database"]
Service = Literal["mlflow_server", "model_registry"]

BUCKETS: frozenset[str] = frozenset(get_args(Bucket))
FOLDERS: frozenset[str] = frozenset(get_args(Folder))
DATASETS: frozenset[str] = frozenset(get_args(Dataset))

FILE = "access.yaml"


class InvalidDeclaration(ProblemsFound):
    """A unit's declaration is not as it must be."""


class UndeclaredUnit(CaudalError):
    """A unit has no declaration."""

    exit_status = 2


class Declaration(Section):
    """What one unit touches."""

    access: Literal[1]
    reads: tuple[Bucket | Folder | Dataset, ...] = ()
    writes: tuple[Bucket | Folder | Dataset | Literal["database"], ...] = ()
    calls: tuple[Service, ...] = ()

    @property
    def only_reads(self) -> tuple[str, ...]:
        """What is read and not written."""
        return tuple(place for place in self.reads if place not in self.writes)


@dataclass(frozen=True)
class Declarations:
    """The declarations of all units."""

    by_unit: Mapping[str, Declaration]

    def __getitem__(self, unit: str) -> Declaration:
        try:
            return self.by_unit[unit]
        except KeyError:
            raise UndeclaredUnit(
                f"the unit '{unit}' does not declare what it touches",
                where=f"services/{unit}",
                mend=f"write services/{unit}/{FILE}; infra/access/declarations.py tells its keys",
            ) from None


def parse_declaration(text: str, name: str) -> Declaration:
    """Reads a declaration.

    Raises:
        InvalidDeclaration: with file, line and mend of every problem.
    """
    try:
        document = read_document(text, name)
        declaration = Declaration.model_validate(document.values)
    except MalformedYaml as malformed:
        raise InvalidDeclaration([malformed.problem]) from malformed
    except ValidationError as error:
        raise InvalidDeclaration(problems_from(error, document, Declaration)) from error
    twice = sorted(set(declaration.reads) & set(declaration.writes))
    if twice:
        what = f"said twice: {', '.join(twice)}"
        raise InvalidDeclaration(
            [Problem(document.where(("reads",)), what, "leave it out of reads: writers may read")]
        )
    return declaration


def load_declarations(root: Path) -> Declarations:
    """Reads every unit's declaration."""
    files = sorted((root / "services").glob(f"*/{FILE}"))
    parsed: dict[str, Any] = {
        file.parent.name: parse_declaration(file.read_text(encoding="utf-8"), str(file.relative_to(root)))
        for file in files
    }
    return Declarations(parsed)
