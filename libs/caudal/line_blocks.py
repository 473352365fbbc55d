"""Streams of lines in blocks that end where a line ends, for parsers that take many lines at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa


def blocks_of_lines(stream: BinaryIO | pa.NativeFile, block_bytes: int, *, unfinished: bool) -> Iterator[bytes]:
    """The stream from where it stands, in blocks of whole lines.

    Args:
        block_bytes: so much is read at a time.
        unfinished: whether a last line that no line end follows is given too; without it, it is left.
    """
    rest = b""
    while block := stream.read(block_bytes):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
    if unfinished and rest.strip():
        yield rest
