"""What all tests share: contracts, a local environment in a temporary folder, and no network.

`small_contract` is a made-up data set (payments of customers): a test says in its own words which part of a
contract it is about, and the shipped contracts can change without it.
"""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from caudal.backends import open_storage, open_warehouse
from caudal.contract import Contract, load_contract, parse_contract
from caudal.environment import Environment, load_environment
from caudal.storage import Storage
from caudal.tables import contract_tables
from caudal.warehouse import Warehouse
from caudal.yaml_document import write_document

REPOSITORY = Path(__file__).resolve().parents[1]

# Speed differs from machine to machine: a slow example is no failure. CI draws the same examples every time.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
# `make test-at-length`: as many as it says, drawn by its seed; what fails is printed with how to draw it again.
settings.register_profile(
    "at-length",
    settings.get_profile("local"),
    max_examples=int(os.environ.get("CAUDAL_EXAMPLES", "1000")),
    derandomize=False,
    database=None,
    print_blob=True,
)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Before any library reads them: no telemetry, one thread, and nothing of the developer's cloud.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "CAUDAL_UNIT_DIGEST",
    "MLFLOW_TRACKING_URI",
):
    os.environ.pop(_name, None)

SMALL_CONTRACT: dict[str, Any] = {
    "contract": 1,
    "name": "payments",
    "question": "Which payments will be disputed?",
    "key": "payment",
    "event_time": "paid_at",
    "columns": {
        "payment": {"type": "integer", "required": True},
        "paid_at": {"type": "timestamp", "required": True},
        "amount": {"type": "decimal", "range": [0, 10000], "unit": "EUR"},
        "items": {"type": "integer", "range": [1, 99]},
        "rate": {"type": "number"},
        "channel": {"type": "category", "values": ["web", "app", "desk"]},
        "abroad": {"type": "boolean"},
        "customer": {"type": "text", "personal": True},
        "refunded": {"type": "number"},
        "disputed": {"type": "category", "values": ["yes", "no"]},
    },
    "label": {"column": "disputed", "positive": "yes", "due_after": "7d"},
    "task": "binary",
    "features": {"numeric": ["amount", "items", "rate"], "categorical": ["channel"], "boolean": ["abroad"]},
    "never": {"refunded": "known only after the dispute"},
    "gate": {"metric": "auc", "against_champion": {"at_least": 0}},
}

REMOVED = object()
"""A value for `small_contract_text` that takes a key away."""

ContractText = Callable[..., str]
MakeContract = Callable[..., Contract]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def bank_contract() -> Contract:
    """The contract of the sample data set that ships."""
    return load_contract(REPOSITORY / "contracts" / "bank_marketing.yaml")


@pytest.fixture(scope="session")
def small_contract_text() -> ContractText:
    """A made-up contract as YAML.

    `small_contract_text({"label.due_after": "3d", "never.refunded": REMOVED}, task="binary")`: dotted paths, or
    keywords for keys at the top, say what differs from `SMALL_CONTRACT`.
    """

    def text(changes: dict[str, Any] | None = None, **top: Any) -> str:
        values = copy.deepcopy(SMALL_CONTRACT)
        for path, value in {**(changes or {}), **top}.items():
            *parents, last = path.split(".")
            inner = values
            for name in parents:
                inner = inner.setdefault(name, {})
            if value is REMOVED:
                del inner[last]
            else:
                inner[last] = copy.deepcopy(value)
        return write_document(values)

    return text


@pytest.fixture(scope="session")
def small_contract(small_contract_text: ContractText) -> MakeContract:
    """The same, parsed."""
    return lambda changes=None, **top: parse_contract(small_contract_text(changes, **top), "payments.yaml")


@pytest.fixture
def local_environment(tmp_path: Path) -> Environment:
    """environments/local.yaml with its root in the test's own folder."""
    return load_environment(REPOSITORY / "environments" / "local.yaml", root=tmp_path / "root")


@pytest.fixture
def local_storage(local_environment: Environment) -> Storage:
    return open_storage(local_environment)


@pytest.fixture
def local_warehouse(local_environment: Environment) -> Warehouse:
    """The local environment's warehouse, still without tables."""
    return open_warehouse(local_environment)


@pytest.fixture
def bank_warehouse(local_warehouse: Warehouse, bank_contract: Contract) -> Warehouse:
    """The local environment's warehouse with the tables of the shipped contract."""
    local_warehouse.ensure_tables(contract_tables(bank_contract))
    return local_warehouse


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """A test that reaches beyond this machine fails, and says where it wanted to go."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise RuntimeError(f"this test wants to connect to {address}, and tests have no network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", only_here)
        yield
