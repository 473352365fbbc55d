"""Landing files and calling the ingest step on them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.storage import Storage
from caudal.storage.files import file_path
from caudal.tables import contract_tables
from caudal.unit import open_context
from caudal.warehouse import Warehouse
from ingest_function.step import ingest
from pipeline.runs import begin_run


class Desk:
    """A place where files land and from which the step is called."""

    def __init__(
        self, contract: Contract, environment: Environment, storage: Storage, warehouse: Warehouse
    ) -> None:
        self.contract = contract
        self.environment = environment
        self.storage = storage
        self.warehouse = warehouse
        warehouse.ensure_tables(contract_tables(contract))

    def land(self, name: str, content: str | bytes) -> Path:
        path = file_path(self.environment.landing(self.contract.name)) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    def ingest(self, as_of: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> dict[str, Any]:
        """One call of the step."""
        run = begin_run(self.storage, self.contract, self.environment, as_of)
        return ingest(open_context(run.config, run.uri))

    def lake(self) -> list[dict[str, Any]]:
        table = f"lake.{self.contract.name}"
        return self.warehouse.query(f"SELECT * FROM {table} ORDER BY _source_uri, _row").to_pylist()


@pytest.fixture
def desk(
    small_contract: Callable[..., Contract],
    local_environment: Environment,
    local_storage: Storage,
    local_warehouse: Warehouse,
) -> Callable[..., Desk]:
    """Makes a desk for the made-up contract; keywords and changes as for `small_contract`."""
    return lambda changes=None, **top: Desk(
        small_contract(changes, **top), local_environment, local_storage, local_warehouse
    )
