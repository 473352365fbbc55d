"""The zip of a Cloud Function's sources, the same bytes for the same content.

Google's builder installs `requirements.txt` (with its hashes) and calls a function in `main.py`, both at the top;
the unit's package and the library lie beside them.
"""

from __future__ import annotations

import hashlib
import zipfile
from io import BytesIO

from pipeline.release.units import Unit

# The earliest time that a zip can hold: when a file was checked out is nobody's business.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16


def build_archive(unit: Unit) -> bytes:
    """The zip of a function."""
    entries = {
        name.split("/", 1)[1]: path.read_bytes() for name, path in unit.files().items() if path != unit.lock
    }
    entries["requirements.txt"] = unit.lock.read_bytes()
    entry = unit.name.removesuffix("_function")
    entries["main.py"] = f"from {unit.name}.main import {entry}\n\n__all__ = [{entry!r}]\n".encode()
    buffer = BytesIO()
    # Stored, not compressed: what a compressor writes differs between versions of zlib.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(entries.items()):
            described = zipfile.ZipInfo(name, _TIME)
            described.external_attr = _MODE
            described.create_system = 3
            archive.writestr(described, data)
    return buffer.getvalue()


def archive_digest(data: bytes) -> str:
    """The digest of a zip, `sha256:...`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
