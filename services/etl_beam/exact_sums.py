"""Sums over windows that don't depend on the order of rows: of integers, never of floats.

An integer enters as it is; a decimal, and a number, as an integer of billionths: the nine places of SQL's NUMERIC.
Where 64 bits could overflow, each integer is cut into four parts of 32 bits, which are summed apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl_beam.timeline import Integers

_PLACES = 1e9
_BITS = 32
_MASK = (1 << _BITS) - 1
_ROOM = 1 << 62


class RunningSums:
    """Running sums of a column.

    Args:
        values: integers, decimals with nine places, or floats below 10^29; null adds nothing.
        order: the rows in the order of summing.
    """

    def __init__(self, values: pa.Array, order: Integers) -> None:
        self._scale = 1.0 if pa.types.is_integer(values.type) else _PLACES
        parts = _parts(values)
        if len(parts) == 1 and _largest(parts[0]) * len(order) >= _ROOM:
            parts = _cut(parts[0], parts[0] >> 63)
        self._sums = [running(part, order) for part in parts]

    def between(self, low: Integers, high: Integers) -> NDArray[np.float64]:
        """The sums of the rows from place `low` to just before `high`, each rounded once to a float."""
        sums = [part[high] - part[low] for part in self._sums]
        total = sums[0].astype(np.float64) if len(sums) == 1 else _join(sums)
        return np.asarray(total / self._scale)


def running(values: NDArray[np.int64], order: Integers) -> Integers:
    """Sums of the first 0, 1, 2, ... values in an order."""
    sums = np.empty(len(order) + 1, np.int64)
    sums[0] = 0
    np.cumsum(values[order], out=sums[1:])
    return sums


def _parts(values: pa.Array) -> list[NDArray[np.int64]]:
    if pa.types.is_decimal(values.type):
        words = np.frombuffer(values.buffers()[1], np.int64).reshape(-1, 2)
        words = words[values.offset : values.offset + len(values)]
        low, high = words[:, 0], words[:, 1]
        if values.null_count:
            valid = np.asarray(values.is_valid())
            low, high = low * valid, high * valid
        return [low] if np.array_equal(high, low >> 63) else _cut(low, high)
    if pa.types.is_floating(values.type):
        scaled = np.rint(pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False) * _PLACES)
        if float(np.abs(scaled).max(initial=0)) < _ROOM:
            return [scaled.astype(np.int64)]
        sign = np.sign(scaled).astype(np.int64)
        rest = np.abs(scaled)
        parts = []
        for exponent in (96, 64, 32, 0):
            part = np.floor(rest / 2.0**exponent)
            rest = rest - part * 2.0**exponent
            parts.append(part.astype(np.int64) * sign)
        return parts[::-1]
    return [pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)]


def _largest(values: NDArray[np.int64]) -> int:
    return max(abs(int(values.max())), abs(int(values.min()))) if len(values) else 0


def _cut(low: NDArray[np.int64], high: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Integers of 128 bits as four parts, lowest first; only the last has a sign."""
    return [low & _MASK, (low >> _BITS) & _MASK, high & _MASK, high >> _BITS]


def _join(sums: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    for i in range(3):
        sums[i + 1] = sums[i + 1] + (sums[i] >> _BITS)
        sums[i] = sums[i] & _MASK
    lowest, low, high, highest = sums
    negative = low >> (_BITS - 1)
    # What fits 64 bits is rounded from one integer, just as it is when nothing had to be cut.
    fits = (high == negative * _MASK) & (highest == -negative)
    small = ((low << _BITS) | lowest).astype(np.float64)
    large = ((highest * 2.0**_BITS + high) * 2.0**_BITS + low) * 2.0**_BITS + lowest
    return np.where(fits, small, large)
