"""The contract's source and columns: what lands, and what each value may be."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Literal

from pydantic import Field, FiniteFloat

from caudal.yaml_document import Section

ColumnType = Literal["integer", "number", "decimal", "boolean", "category", "text", "date", "timestamp"]
ORDERED_TYPES: tuple[ColumnType, ...] = ("integer", "number", "decimal")
KEY_TYPES: tuple[ColumnType, ...] = ("integer", "decimal", "text", "category", "date", "timestamp")
VERSION_TYPES: tuple[ColumnType, ...] = (*ORDERED_TYPES, "date", "timestamp")
CLASS_TYPES: tuple[ColumnType, ...] = ("boolean", *ORDERED_TYPES, "category", "text")


def class_value(kind: ColumnType, text: str) -> str | bool | int | float | Decimal:
    """A value of one of `CLASS_TYPES` that a contract writes as text.

    Raises:
        ValueError: no column of the type holds such a value.
    """
    if kind == "boolean":
        if text not in ("true", "false"):
            raise ValueError(f"'{text}' is neither 'true' nor 'false'")
        return text == "true"
    if kind not in ORDERED_TYPES:
        return text
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"'{text}' is no number") from error
    if not value.is_finite() or abs(value) >= 1 << 63:
        raise ValueError(f"'{text}' is out of range")
    if kind == "number":
        return float(value)
    if value != round(value, 0 if kind == "integer" else 9):
        raise ValueError(f"'{text}' has more places than a value of type {kind}")
    return int(value) if kind == "integer" else value


class CsvDialect(Section):
    """How CSV files of this source are written.

    Attributes:
        delimiter: what stands between values.
        decimal: the mark before decimals.
        quote: what encloses a value that holds the delimiter.
        encoding: of the file's text.
        multiline: a quoted value may hold line breaks; off, an unclosed quote can spoil one line only.
        null_values: texts that stand for no value, quoted or not.
    """

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    quote: str = Field(default='"', min_length=1, max_length=1)
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)
    multiline: bool = False


class Source(Section):
    """Where landed files lie below `<landing>/<contract>/`, and how they are written.

    The format follows from the name: .csv, .ndjson, .jsonl or .parquet, each with or without .gz (not Parquet).

    Attributes:
        files: only files whose names match this pattern are taken.
        citation: whom to name where the data is shown.
        licence: under which the data may be used.
    """

    files: str = "*"
    csv: CsvDialect = CsvDialect()
    citation: str = ""
    licence: str = ""


class Column(Section):
    """One column of the source.

    Attributes:
        type: what a value is; text that can't be read as it is kept aside, and the row is rejected.
        required: a row without a value is rejected.
        range: the smallest and the largest value that a row may have, both included.
        values: the values that a row may have.
        unit: what a number counts, for readers.
        personal: never shown in clear in logs, reports, MLflow or prediction logs.
    """

    type: ColumnType
    required: bool = False
    range: tuple[FiniteFloat, FiniteFloat] | None = None
    values: tuple[str, ...] | None = None
    unit: str = ""
    personal: bool = False
