"""Which of two live models answers a key."""

from __future__ import annotations

import hashlib


def belongs_to_challenger(contract: str, challenger: str, key: int | str, share: float) -> bool:
    """Whether the challenger answers this key.

    The split follows from the key alone: a key meets the same model every time, on every server. It differs from
    challenger to challenger, so that no group of keys is tried on again and again. A growing share only adds keys.

    Args:
        challenger: the challenger's version.
        share: from 0 to 1.
    """
    if share <= 0:
        return False
    digest = hashlib.blake2b(f"{contract}\0{challenger}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64
