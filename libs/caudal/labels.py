"""The label as numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from caudal.contract.columns import class_value
from caudal.errors import CaudalError

if TYPE_CHECKING:
    from caudal.contract import Contract


def classes(contract: Contract) -> tuple[str, ...]:
    """The classes of a multiclass task, in the order of their numbers; none for other tasks.

    They are the label column's `values`, so that they never depend on which rows have been seen.
    """
    if contract.task != "multiclass":
        return ()
    values = contract.columns[contract.label.column].values
    if values is None:
        raise CaudalError(
            "a multiclass label must list its values",
            where=contract.where("columns", contract.label.column),
            mend="add 'values' to the label's column",
        )
    return values


def watched_classes(contract: Contract) -> tuple[str, ...]:
    """The classes whose rows are looked at by themselves: the positive one of a binary task (the others are nearly
    all rows), each of several classes; none for a regression.
    """
    if contract.task == "binary":
        return (contract.label.positive,) if contract.label.positive is not None else ()
    return classes(contract)


def class_number(contract: Contract, name: str) -> int:
    """The number that `encode_labels` gives to one of the watched classes."""
    return 1 if contract.task == "binary" else classes(contract).index(name)


def label_value(contract: Contract, name: str) -> str | bool | int | float:
    """A class, which the contract writes as text, as a query's parameter to compare the label's column with."""
    value = _class_value(contract, name)
    return float(value) if isinstance(value, Decimal) else value


def has_label(contract: Contract, values: pa.Array | pa.ChunkedArray, name: str) -> pa.Array | pa.ChunkedArray:
    """Which values of the label's column are a class; null where there is no label."""
    return pc.equal(values, pa.scalar(_class_value(contract, name), values.type))


def _class_value(contract: Contract, name: str) -> str | bool | int | float | Decimal:
    return class_value(contract.columns[contract.label.column].type, name)


def encode_labels(contract: Contract, table: pa.Table | pa.RecordBatch) -> NDArray[Any]:
    """The label column as numbers, shape (rows,).

    Binary: int8, 1 for the contract's positive value. Multiclass: int64, the position among `classes`.
    Regression: float64.

    Raises:
        CaudalError: a label is missing, or is none of the classes.
    """
    name = contract.label.column
    column = table.column(name)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count:
        raise CaudalError(
            f"{column.null_count} rows have no label", where=name, mend="leave out rows whose label is not known"
        )
    if contract.task == "regression":
        return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    if contract.task == "binary" and contract.label.positive is not None:
        positive = has_label(contract, column, contract.label.positive)
        return np.asarray(positive.to_numpy(zero_copy_only=False), dtype=np.int8)
    numbers = pc.index_in(pc.cast(column, pa.string()), pa.array(classes(contract), pa.string()))
    if numbers.null_count:
        raise CaudalError(
            "a label is none of the contract's classes",
            where=name,
            mend="add it to the column's values, or reject such rows",
        )
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int64)
