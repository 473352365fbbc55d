"""Defects as real deliveries have them, put into clean simulated transactions.

Like the simulation itself, a day's dirt depends on the seed and the day alone. Every kind can be wanted by itself;
its share is that of rows, or of days for `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DirtKind = Literal["nulls", "types", "range", "duplicates", "late", "unknown"]
KINDS: tuple[DirtKind, ...] = get_args(DirtKind)
_SHARES: dict[DirtKind, float] = {
    "nulls": 0.0005,
    "types": 0.0005,
    "range": 0.0005,
    "duplicates": 0.002,
    "late": 0.005,
    "unknown": 0.01,
}
UNKNOWN_COLUMN = "channel"
LONGEST_DELAY = 21

_STREAM = 1_000
_REQUIRED = ("transaction_id", "occurred_at", "customer_id", "terminal_id", "amount")
_UNREADABLE = {"occurred_at": "yesterday", "terminal_id": "T17", "amount": "12.5O"}
_OUT_OF_RANGE: dict[str, tuple[Any, ...]] = {
    "customer_id": (-1,),
    "terminal_id": (-17,),
    "amount": (Decimal("-0.01"), Decimal("100000.01"), Decimal("9999999.99")),
}


@dataclass(frozen=True)
class Dirt:
    """One kind of defect.

    - `nulls`: a required value is missing.
    - `types`: a value is text that is no number or no time; Parquet then holds these columns as text.
    - `range`: an amount below 0 or above what the contract allows, or a negative number of a customer or terminal.
    - `duplicates`: a row comes twice, every other time with another amount.
    - `late`: a row comes in a second file of its day, 1 to 21 days after the others.
    - `unknown`: a day's file has a column more.
    """

    kind: DirtKind
    share: float

    @staticmethod
    def parse(text: str) -> tuple[Dirt, ...]:
        """Reads `KIND` or `KIND=SHARE`; `all` is every kind.

        Raises:
            ValueError: it says something else.
        """
        kind, _, said = text.partition("=")
        share = float(said) if said else None
        if share is not None and not 0 < share < 1:
            raise ValueError(f"the share of '{text}' is not between 0 and 1")
        chosen = tuple(
            Dirt(known, _SHARES[known] if share is None else share) for known in KINDS if kind in (known, "all")
        )
        if not chosen:
            raise ValueError(f"'{kind}' is not one of {', '.join(KINDS)}, all")
        return chosen


@dataclass(frozen=True)
class Delivery:
    """Rows of one day that land together, and how many days after the day's end."""

    rows: pa.Table
    delay: int = 0


def soil(clean: pa.Table, dirt: Sequence[Dirt], seed: int, day: int) -> list[Delivery]:
    """Puts defects into one day's transactions; the first delivery is the punctual one."""
    table = clean
    late: pa.Table | None = None
    delay = 0
    shares = {d.kind: d.share for d in dirt}
    for kind in KINDS:
        if kind not in shares:
            continue
        random = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_STREAM + KINDS.index(kind), day)))
        )
        hit = random.random(table.num_rows) < shares[kind]
        if kind == "nulls":
            table = _in_columns(table, hit, random, dict.fromkeys(_REQUIRED, (None,)))
        elif kind == "types":
            for name in _UNREADABLE:
                table = _replaced(table, name, _text(table[name]))
            table = _in_columns(table, hit, random, {name: (text,) for name, text in _UNREADABLE.items()})
        elif kind == "range":
            table = _in_columns(table, hit, random, _OUT_OF_RANGE)
        elif kind == "duplicates":
            table = _repeated(table, hit, random)
        elif kind == "late":
            late, table = table.filter(pa.array(hit)), table.filter(pa.array(~hit))
            delay = int(random.integers(1, LONGEST_DELAY + 1))
        elif random.random() < shares[kind]:
            channel = pa.DictionaryArray.from_arrays(np.arange(table.num_rows) % 2, ["app", "card"])
            table = table.append_column(UNKNOWN_COLUMN, channel.cast(pa.string()))
    first = Delivery(table)
    return [first] if late is None or not late.num_rows else [first, Delivery(late, delay)]


def _in_columns(
    table: pa.Table, hit: np.ndarray, random: np.random.Generator, values: dict[str, tuple[Any, ...]]
) -> pa.Table:
    """Gives each hit row one of the columns' values, in one column."""
    which = np.where(hit, random.integers(0, len(values), len(hit)), -1)
    for position, (name, options) in enumerate(values.items()):
        mask = which == position
        count = int(mask.sum())
        if count:
            kind = table.schema.field(name).type
            given = [options[i % len(options)] for i in range(count)]
            if pa.types.is_string(kind):
                given = [None if value is None else str(value) for value in given]
            new = pc.replace_with_mask(table[name].combine_chunks(), pa.array(mask), pa.array(given, kind))
            table = _replaced(table, name, new)
    return table


def _repeated(table: pa.Table, hit: np.ndarray, random: np.random.Generator) -> pa.Table:
    copies = table.filter(pa.array(hit))
    if copies.num_rows:
        changed = np.arange(copies.num_rows) % 2 == 1
        kind = copies.schema.field("amount").type
        others = pa.array(random.integers(1, 500, int(changed.sum()))).cast(pa.decimal128(21, 2))
        amount = copies["amount"].combine_chunks()
        new = pc.replace_with_mask(amount, pa.array(changed), others.cast(kind))
        copies = _replaced(copies, "amount", new)
    together = pa.concat_tables([table, copies])
    return together.take(pa.array(random.permutation(together.num_rows)))


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column.cast(pa.timestamp("s", tz="UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    return column.cast(pa.string())


def _replaced(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)
