"""A model of the sample data set and a server of it, shared by the tests that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from caudal.backends import open_storage
from caudal.contract import Contract
from caudal.environment import Environment, load_environment
from caudal.package import ModelPackage
from caudal.storage import Storage
from tests.serving.made import WHEN, Served, bank_rows, make_model, promote, served


@pytest.fixture
def quick(local_environment: Environment) -> Environment:
    """An environment whose server looks at the ledger at every request."""
    serving = local_environment.serving.model_copy(update={"look_every": WHEN - WHEN})
    return local_environment.model_copy(update={"serving": serving})


@pytest.fixture(scope="session")
def all_bank_rows(repository: Path, bank_contract: Contract) -> pa.Table:
    return bank_rows(repository, bank_contract)


@pytest.fixture(scope="session")
def bank_environment(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return load_environment(repository / "environments" / "local.yaml", root=tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="session")
def bank_storage(bank_environment: Environment) -> Storage:
    return open_storage(bank_environment)


@pytest.fixture(scope="session")
def bank_package(
    bank_storage: Storage, bank_environment: Environment, bank_contract: Contract, all_bank_rows: pa.Table
) -> ModelPackage:
    """A model of the last 5,000 rows, live."""
    package = make_model(
        bank_storage, bank_environment, bank_contract, all_bank_rows.slice(all_bank_rows.num_rows - 5000)
    )
    promote(bank_storage, bank_environment, package)
    return package


@pytest.fixture(scope="session")
def bank_server(
    bank_package: ModelPackage,
    bank_contract: Contract,
    bank_environment: Environment,
    bank_storage: Storage,
) -> Iterator[Served]:
    with served(bank_contract, bank_environment, bank_storage) as running:
        yield running
