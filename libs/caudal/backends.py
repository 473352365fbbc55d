"""Which adapter serves an environment: the one place where adapters are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from caudal.errors import UsageError
from caudal.serving_environment import STDOUT

if TYPE_CHECKING:
    from caudal.environment import Environment
    from caudal.served import ServedLines
    from caudal.storage import Storage
    from caudal.warehouse import Warehouse


def storage_for(uri: str, root: Path = Path("/")) -> Storage:
    """The storage that holds a URI.

    Args:
        uri: `file://` or `gs://`.
        root: on a laptop, the folder to which names in identities are relative.
    """
    scheme = uri.split("://", 1)[0]
    if scheme == "file":
        from caudal.storage.files import FileStorage

        return FileStorage(root)
    if scheme == "gs":
        from caudal.storage.gcs import GcsStorage

        return GcsStorage()
    raise UsageError(f"no storage serves '{scheme}://'", where=uri, mend="use file:// or gs://")


def open_storage(environment: Environment) -> Storage:
    """The storage in which the environment's objects lie."""
    return storage_for(environment.places.artifacts, environment.root_path)


def open_warehouse(environment: Environment) -> Warehouse:
    """The warehouse that holds the environment's tables."""
    scheme, place = environment.warehouse.split(":", 1)
    if scheme == "duckdb":
        from caudal.warehouse.duckdb import DuckDBWarehouse

        return DuckDBWarehouse(Path(place), open_storage(environment))
    from caudal.warehouse.bigquery import BigQueryWarehouse

    return BigQueryWarehouse(place, open_storage(environment))


def open_served_lines(environment: Environment) -> ServedLines:
    """The lines that the environment's servers log: a file, or what a log sink takes to BigQuery."""
    destination = environment.serving.prediction_log
    scheme, place = environment.warehouse.split(":", 1)
    if destination != STDOUT:
        from caudal.served.files import FileLines

        return FileLines(Path(destination))
    if scheme == "bigquery":
        from caudal.served.bigquery import SinkLines

        return SinkLines(place)
    from caudal.served import NotKept

    return NotKept()
