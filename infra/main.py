"""The CDKTF app: synthesizes the stacks of the environment that CAUDAL_ENV names.

    CAUDAL_ENV=dev python -m infra.main            into cdktf.out/dev
    CAUDAL_ENV=dev npx cdktf-cli@0.21.0 deploy ...  see cdktf.json and docs/deploy.md
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from infra import cdk as cdk  # before any import of CDKTF  # isort: split
from cdktf import App

from caudal.errors import CaudalError
from infra.environments import Deployment, load_deployment
from infra.stacks.data import DataStack

OUTPUT_VARIABLE = "CDKTF_OUTDIR"


def synthesize(deployment: Deployment, output: Path) -> None:
    """Writes the stacks of one environment into a folder of its own."""
    # A stack that is no longer there would stay, and be scanned and rehearsed.
    shutil.rmtree(output / "stacks", ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    app = App(outdir=str(output))
    DataStack(app, deployment)
    app.synth()


def main() -> int:
    try:
        deployment = load_deployment()
        output = Path(os.environ.get(OUTPUT_VARIABLE) or Path("cdktf.out") / deployment.name)
        synthesize(deployment, output)
    except CaudalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
