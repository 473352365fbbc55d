"""Memory that allocators keep for later is given back between large elements.

A shard's tables come and go as a whole. Without this a process holds on to the largest of each kind at once, and
each thread of a worker adds its own.
"""

from __future__ import annotations

import ctypes
from functools import cache

import pyarrow as pa


def give_back() -> None:
    """Returns what Arrow's pool and the C library hold and don't use to the system."""
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    """glibc's malloc_trim; other C libraries have none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
