"""`python -m serving --config URI`: the server of one contract, as a container runs it.

The configuration folder holds `contract.yaml` and `environment.yaml`; the port is the one that Cloud Run names in
PORT.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from caudal.backends import storage_for
from caudal.contract import parse_contract
from caudal.environment import parse_environment
from caudal.errors import CaudalError
from caudal.storage import join
from caudal.unit import CONTRACT_FILE, ENVIRONMENT_FILE
from serving.server import bind, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Serves; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="The server of one contract.")
    parser.add_argument("--config", required=True, metavar="URI", help="folder with contract and environment")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8080")))
    arguments = parser.parse_args(argv)
    storage = storage_for(arguments.config)
    try:
        contract_uri = join(arguments.config, CONTRACT_FILE)
        environment_uri = join(arguments.config, ENVIRONMENT_FILE)
        contract = parse_contract(storage.read(contract_uri).decode(), contract_uri)
        environment = parse_environment(storage.read(environment_uri).decode(), environment_uri)
        serve(contract, environment, storage, bind(arguments.host, arguments.port))
    except CaudalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
