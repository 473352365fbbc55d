"""Errors that a user can act on: each says what is wrong, where, and the mend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class CaudalError(Exception):
    """An error with a place and a mend.

    Attributes:
        what: what is wrong, one sentence without a full stop.
        where: the file and line, URI, table or step concerned; empty when there is none.
        mend: what the reader can do about it.
        transient: nothing is wrong with what was asked, so the same call may succeed later.
    """

    exit_status = 1
    transient = False

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what = what
        self.where = where
        self.mend = mend
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f"\n  mend: {self.mend}" if self.mend else ""
        return f"{place}{self.what}{mend}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file that a person wrote."""

    where: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n  mend: {self.mend}"


class ProblemsFound(CaudalError):
    """A file that a person wrote has one or more problems; all are listed, in the order of their lines."""

    exit_status = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.what, where=first.where, mend=first.mend)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class InvalidContract(ProblemsFound):
    """The contract, or a file checked against it, is not as it must be."""


class InvalidEnvironment(ProblemsFound):
    """The environment file is not as it must be."""


class UsageError(CaudalError):
    """The command was called in a way that can't work."""

    exit_status = 2


class AlreadyExists(CaudalError):
    """An object was to be created exclusively, and somebody else had created it."""


class NotFound(CaudalError):
    """An object, table, model or run that was asked for is not there."""


class WarehouseBusy(CaudalError):
    """Another process holds the local warehouse, and did not let go in time."""


class WarehouseFailed(CaudalError):
    """The warehouse refused or could not finish a job; nothing of it was kept."""


class WarehouseUnavailable(CaudalError):
    """The warehouse can't do it now: it is overloaded, limits the rate, or another transaction was in the way."""

    transient = True


class RowsRefused(CaudalError):
    """The warehouse refused staged rows for what is in them; nothing of them was kept."""


class CommitConflict(CaudalError):
    """The warehouse has moved on since a commit was planned; nothing of the commit was kept."""

    transient = True


class TooManyDays(CaudalError):
    """Rows lie on more days than a table can have partitions."""


class UnsupportedSql(CaudalError):
    """A query is outside the subset of SQL that both warehouses run alike."""


class TableMismatch(CaudalError):
    """A table is missing, or its columns are not those that the contract asks for."""


class PackageError(CaudalError):
    """A model package or another committed folder is incomplete or altered."""


class UnreadableObject(CaudalError):
    """A landed object can't be read at all: it goes to quarantine whole."""


class RunInProgress(CaudalError):
    """Another run of the same contract is active."""


class StepFailed(CaudalError):
    """A step of a run failed, after its retries."""
