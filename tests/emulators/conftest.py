"""Starts the emulators of Cloud Storage and BigQuery, once for all tests of this folder.

`make test-emulators` makes their environment. Without it these tests are skipped, and in CI they fail, unless
CAUDAL_EMULATORS=none says that this machine can't have it. docs/emulators.md says what they can't show.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from caudal.storage import Storage, join
from caudal.tables import Table
from caudal.warehouse.bigquery import BigQueryWarehouse, Clients
from tests.contract_suites.warehouse import TABLES

if TYPE_CHECKING:
    from google.cloud import bigquery

HERE = Path(__file__).resolve().parent
PROJECT = "local"
BUCKET = "caudal-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.emulator)


@pytest.fixture(scope="session", autouse=True)
def python(repository: Path) -> Path:
    """The interpreter of the emulators' environment."""
    found = repository / ".venv-emulators" / "bin" / "python"
    if os.environ.get("CAUDAL_EMULATORS") == "none":
        pytest.skip("CAUDAL_EMULATORS=none: this machine has no Python for the emulators")
    if not found.exists():
        reason = "there is no .venv-emulators: call `make test-emulators`, which makes it with Python 3.13"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


Serve = Callable[..., None]


@dataclass(frozen=True)
class EmulatorClients:
    """Makes clients of the BigQuery emulator; it travels to other processes as what it says here."""

    rest: str
    grpc: str
    project: str

    def __call__(self) -> Clients:
        import grpc
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery
        from google.cloud.bigquery_storage_v1 import BigQueryReadClient
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

        return Clients(
            bigquery.Client(
                project=self.project,
                credentials=AnonymousCredentials(),
                client_options={"api_endpoint": self.rest},
            ),
            BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=grpc.insecure_channel(self.grpc))),
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def serve(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts a script of this folder in the emulators' environment, and waits until its address answers."""
    running: list[subprocess.Popen[bytes]] = []
    home = tmp_path_factory.mktemp("emulators")

    def start(script: str, address: str, *arguments: object) -> None:
        log = (home / f"{script}.log").open("wb")
        environment = {**os.environ, "HOME": str(home)}
        environment.pop("PYTHONPATH", None)
        command = [str(python), str(HERE / script), *map(str, arguments)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=home)
        running.append(process)
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                return
            except urllib.error.HTTPError:
                return  # it answers
            except OSError:
                assert process.poll() is None, (home / f"{script}.log").read_text()
                assert time.monotonic() < deadline, f"{script} does not answer at {address}"
                time.sleep(0.1)

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def gcs(serve: Serve) -> str:
    """The address of the Cloud Storage emulator, which has one bucket; gcsfs finds it in the environment."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    serve("serve_gcs.py", address, port)
    request = urllib.request.Request(
        f"{address}/storage/v1/b?project={PROJECT}",
        data=f'{{"name": "{BUCKET}"}}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    os.environ["STORAGE_EMULATOR_HOST"] = address
    return address


@pytest.fixture(scope="session")
def addresses(serve: Serve, gcs: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Where the BigQuery emulator answers: REST and gRPC."""
    rest, grpc = free_port(), free_port()
    address = f"http://127.0.0.1:{rest}"
    serve("serve_bigquery.py", address, rest, grpc, tmp_path_factory.mktemp("bigquery"))
    return address, f"127.0.0.1:{grpc}"


@pytest.fixture
def storage(gcs: str) -> Storage:
    from caudal.storage.gcs import GcsStorage

    return GcsStorage()


@pytest.fixture
def folder() -> str:
    return join(f"gs://{BUCKET}", "tests", uuid.uuid4().hex)


@contextmanager
def tables_made(client: bigquery.Client, tables: Sequence[Table]) -> Iterator[None]:
    """Tables made as Terraform would, from their BigQuery schema, and no others left over.

    A job's id is taken for good, so the emulator forgets them all after each test. (A project a test would be
    simpler, but each slows the emulator down.)
    """
    from google.cloud import bigquery

    datasets = sorted({table.dataset for table in tables})
    for dataset in datasets:
        client.create_dataset(dataset, exists_ok=True)
    for table in tables:
        schema = [bigquery.SchemaField.from_api_repr(column) for column in table.bigquery_schema()]
        made = bigquery.Table(f"{PROJECT}.{table.sql_name}", schema=schema)
        if table.partition_by:
            made.time_partitioning = bigquery.TimePartitioning(field=table.partition_by)
        made.clustering_fields = list(table.cluster_by) or None
        client.create_table(made)
    yield
    for dataset in datasets:
        assert {item.table_id for item in client.list_tables(dataset)} == {
            table.name for table in tables if table.dataset == dataset
        }, "a staged table is left over"
        client.delete_dataset(dataset, delete_contents=True)
    for job in client.list_jobs():
        client.delete_job_metadata(job.job_id)
    client.close()


@pytest.fixture
def warehouse(addresses: tuple[str, str], storage: Storage) -> Iterator[BigQueryWarehouse]:
    """The warehouse with the suite's tables."""
    clients = EmulatorClients(*addresses, PROJECT)
    with tables_made(clients().bigquery, TABLES):
        yield BigQueryWarehouse(PROJECT, storage, clients=clients)
