"""`python -m mlflow_server [upgrade]`: becomes MLflow's server, or brings its database to this version.

The database is reached through Cloud SQL's proxy beside it, which logs in as the service's account: there is no
password. Clients write artifacts into the bucket themselves, since Cloud Run takes no request above 32 MiB.
A new version of MLflow refuses a database of an older one: run `upgrade` once before it takes over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import quote

DATABASE = "mlflow"
PROXY = "127.0.0.1:5432"


def database_uri(environment: Mapping[str, str]) -> str:
    """The database as SQLAlchemy names it; the user is a service account without `.gserviceaccount.com`."""
    return f"postgresql://{quote(environment['DATABASE_USER'], safe='')}@{PROXY}/{DATABASE}"


def command(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command that this process becomes.

    Raises:
        SystemExit: the argument is none that it knows.
    """
    if list(arguments) == ["upgrade"]:
        return ["mlflow", "db", "upgrade", database_uri(environment)]
    if arguments:
        raise SystemExit("usage: python -m mlflow_server [upgrade]")
    return [
        "mlflow", "server",
        "--host", "0.0.0.0",
        "--port", environment.get("PORT", "8080"),
        "--workers", "1",
        "--backend-store-uri", database_uri(environment),
        "--no-serve-artifacts",
        "--default-artifact-root", environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"],
    ]  # fmt: skip


if __name__ == "__main__":
    becomes = command(sys.argv[1:], os.environ)
    os.execvp(becomes[0], becomes)
