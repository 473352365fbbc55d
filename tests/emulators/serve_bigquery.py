"""Serves the BigQuery emulator without a network.

Runs in the emulators' own environment: python serve_bigquery.py REST_PORT GRPC_PORT FOLDER. The DuckDB extensions
that it needs come as packages and are put into this process's home first; it would download them otherwise. Its
geography functions would need one more, and nothing here uses them. Of two jobs of one id that are sent at once it
refuses one with 400 where BigQuery answers 409, so here one job is taken up at a time.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from duckdb_extensions import import_extension


def main() -> None:
    rest, grpc, folder = sys.argv[1:]
    for extension in ("icu", "httpfs", "avro", "ducklake"):
        import_extension(extension)
    from local_bigquery import cli
    from local_bigquery.engine import database
    from local_bigquery.jobs import runner

    submit, one_at_a_time = runner.submit, threading.Lock()

    def submit_alone(*arguments: Any) -> Any:
        with one_at_a_time:
            return submit(*arguments)

    runner.submit = submit_alone
    database.FUNCTIONS = [path for path in database.FUNCTIONS if path.stem != "geography"]
    addresses = ["--host", "127.0.0.1", "--port", rest, "--grpc-port", grpc]
    cli.main(["serve", *addresses, "--project", "local", "--data-dir", folder])


if __name__ == "__main__":
    main()
