"""A file held against a contract, before anything is landed: what does not fit, and where the contract says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from caudal.errors import InvalidContract, Problem, UnreadableObject

if TYPE_CHECKING:
    from caudal.contract import Contract
    from ingest_function.records import BrokenRecord


@dataclass(frozen=True)
class DataCheck:
    """What a file holds, as far as it fits the contract: `rows` that can be read, `broken` ones that can't."""

    rows: int
    broken: int


def check_data(contract: Contract, path: Path) -> DataCheck:
    """Reads a whole file as ingest would, and holds every value against the contract.

    Raises:
        InvalidContract: columns that are not in both, values of another type, out of range or not allowed, each
            with the contract's file and line and the mend; or a file that is not there or can't be read at all.
    """
    from ingest_function.conversion import convert
    from ingest_function.reading import read_batches

    found = _Findings(contract, path.name)
    try:
        with path.open("rb") as stream:
            for raw in read_batches(stream, path.name, contract, found.set_aside):
                found.rows += raw.values.num_rows
                found.header(raw.values.schema.names)
                for name, column in contract.columns.items():
                    if name in raw.values.schema.names:
                        came = raw.values.column(name)
                        values = convert(came, column.type, contract.zone, contract.source.csv.decimal)
                        found.values(name, came, values)
    except FileNotFoundError as error:
        raise InvalidContract([Problem(str(path), "there is no such file", "check the path")]) from error
    except UnreadableObject as error:
        raise InvalidContract([Problem(str(path), error.what, error.mend)]) from error
    problems = found.problems()
    if problems:
        raise InvalidContract(problems)
    return DataCheck(found.rows, found.broken)


class _Findings:
    """Collects, over all batches, how often each expectation is not met and the first value that fails it."""

    def __init__(self, contract: Contract, file: str) -> None:
        self._contract = contract
        self._file = file
        self._counts: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], str] = {}
        self.rows = 0
        self.broken = 0

    def set_aside(self, record: BrokenRecord) -> None:
        self.broken += 1

    def header(self, names: list[str]) -> None:
        for name in self._contract.columns:
            if name not in names:
                self._counts[name, "absent"] = self.rows
                self._examples[name, "absent"] = ", ".join(names)
        for name in names:
            if name not in self._contract.columns:
                self._counts[name, "unknown"] = self.rows

    def values(self, name: str, came: pa.Array, values: pa.Array) -> None:
        column = self._contract.columns[name]
        self._add(name, "type", came, pc.and_(pc.is_null(values), pc.is_valid(came)))
        if column.required:
            self._add(name, "missing", came, pc.is_null(came))
        if column.range is not None:
            low, high = column.range
            number = pc.cast(values, pa.float64(), safe=False)
            self._add(name, "range", came, pc.or_(pc.less(number, low), pc.greater(number, high)))
        if column.values is not None:
            allowed = pa.array(column.values, values.type)
            self._add(name, "values", came, pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, allowed))))

    def _add(self, name: str, kind: str, came: pa.Array, failing: pa.Array) -> None:
        failing = pc.fill_null(failing, False)
        count = pc.sum(failing).as_py() or 0
        if count:
            self._counts[name, kind] = self._counts.get((name, kind), 0) + count
            self._examples.setdefault((name, kind), str(came.filter(failing)[0].as_py()))

    def problems(self) -> list[Problem]:
        """The findings, in the order of the contract's lines."""
        found = [self._problem(name, kind, count) for (name, kind), count in self._counts.items()]
        return sorted(found, key=lambda problem: int(problem.where.rsplit(":", 1)[1]))

    def _problem(self, name: str, kind: str, count: int) -> Problem:
        contract = self._contract
        column = contract.columns.get(name)
        rows = f"{count:,} of {self.rows:,} rows of {self._file}"
        example = self._examples.get((name, kind), "")
        where = contract.where("columns", name)
        if kind == "absent":
            what = f"the column '{name}' is not in {self._file}, which has {example}"
            return Problem(where, what, "correct the name, or remove the column from the contract")
        if kind == "unknown":
            what = f"{self._file} has a column '{name}' that the contract does not name"
            return Problem(
                contract.where("columns"), what, "add it under 'columns'; under 'never' if no model may see it"
            )
        assert column is not None
        if kind == "type":
            what = f"{rows} have no {column.type} in '{name}', such as '{example}'"
            return Problem(where, what, "correct the type, or the source")
        if kind == "missing":
            return Problem(where, f"{rows} have no value in '{name}', which is required",
                           "remove 'required', or correct the source")  # fmt: skip
        if kind == "range":
            return Problem(contract.where("columns", name, "range"),
                           f"{rows} have '{name}' outside its range, such as {example}",
                           "widen the range, or correct the source")  # fmt: skip
        return Problem(contract.where("columns", name, "values"),
                       f"{rows} have a value of '{name}' that is not listed, such as '{example}'",
                       "add the value, or correct the source")  # fmt: skip
