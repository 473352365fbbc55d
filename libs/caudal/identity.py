"""Identities: what makes a load, a manifest, a run, a snapshot and a model version the same thing twice.

Every identity is a hash of what the thing is made from. None holds a clock, a path, a commit or a random number.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path

from caudal.errors import NotFound

SHORT = 16


def digest(*parts: object) -> str:
    """SHA-256 over the canonical JSON of the parts, as hexadecimal.

    Raises:
        TypeError: a part is no JSON: the text of a set or an object would not be the same twice.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_id(bucket: str, name: str, generation: str) -> str:
    """The identity of one landed object: bucket, object, generation, and nothing else."""
    return digest("load", bucket, name, generation)[:SHORT]


def manifest_id(load_ids: Iterable[str]) -> str:
    """The identity of a set of objects that are loaded as one job."""
    return digest("manifest", sorted(load_ids))[:SHORT]


def model_version(snapshot_id: str, model_digest: str, unit: str, part: str) -> str:
    """The identity of a model package.

    Args:
        snapshot_id: the rows.
        model_digest: the contract's sections that decide the model (`Contract.model_digest`).
        unit: the digest of the trainer unit (`unit_digest`).
        part: which rows of the snapshot were learned, and what the recipe resolved to.
    """
    return digest("model", snapshot_id, model_digest, unit, part)[:SHORT]


def run_id(as_of: datetime, request: str | None = None) -> str:
    """The name of a run: its as-of instant, and the request that asked for a further one."""
    stamp = as_of.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{digest('request', request)[:6]}" if request else stamp


def floor_to(moment: datetime, period: timedelta) -> datetime:
    """The start of the period (counted from 1970-01-01 UTC) that holds a moment."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + ((moment - epoch) // period) * period


def format_instant(moment: datetime) -> str:
    """An instant as UTC text that sorts by time, such as `2008-06-01T00:00:00Z`."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return re.sub(r"(\.000000)?\+00:00$", "Z", text)


def parse_instant(text: str) -> datetime:
    """Reads `2008-06-01` (midnight UTC) or an ISO instant; a naive one is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@cache
def unit_digest(unit: str) -> str:
    """The digest of a service's code: baked into its image, or a hash of its sources on a laptop.

    A container has it in CAUDAL_UNIT_DIGEST. Elsewhere it is the hash of the service's own files, of this
    library and of the versions of the packages that decide a model's bytes.
    """
    baked = os.environ.get("CAUDAL_UNIT_DIGEST")
    if baked:
        return baked
    library = Path(__file__).resolve().parent
    service = library.parents[1] / "services" / unit
    if not service.is_dir():
        raise NotFound(
            f"the sources of the unit '{unit}' are not here, so its digest is unknown",
            where=str(service),
            mend="set CAUDAL_UNIT_DIGEST where the unit is built",
        )
    hashes = []
    for folder in (library, service):
        for path in sorted(folder.rglob("*.py")):
            if "tests" not in path.parts:
                name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
                hashes.append((name, hashlib.sha256(path.read_bytes()).hexdigest()))
    packages = [
        (name, version(name)) for name in ("numpy", "pyarrow", "xgboost", "xgboost-cpu") if _installed(name)
    ]
    return digest("unit", unit, hashes, packages)[:SHORT]


def _installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
