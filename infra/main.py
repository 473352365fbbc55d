"""The CDKTF app: synthesizes the stacks of the environment that CAUDAL_ENV names.

    CAUDAL_ENV=dev python -m infra.main            into cdktf.out/dev
    CAUDAL_ENV=dev npx cdktf-cli@0.21.0 deploy ...  see cdktf.json and docs/deploy.md

Before the first release there is nothing to run: the stacks that need none are synthesized, so that the first
images have a registry to go to.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cdktf import App

from caudal.cloud_environment import JobSize
from caudal.errors import CaudalError
from infra.access.declarations import load_declarations
from infra.access.grants import BUILDER, SCHEDULER, SERVICES, WORKFLOW, Grant, derive
from infra.environments import Deployment, load_deployment
from infra.release import Release, release_path
from infra.stacks.base import Stack
from infra.stacks.bootstrap import BootstrapStack
from infra.stacks.data import DataStack
from infra.stacks.foundation import FoundationStack
from infra.stacks.observability import ObservabilityStack
from infra.stacks.orchestration import OrchestrationStack
from infra.stacks.services import FunctionStack, JobStack, ServingStack, TemplateStack, TrackingStack
from pipeline.steps import STEPS

OUTPUT_VARIABLE = "CDKTF_OUTDIR"

UNITS = tuple(sorted({*(step.unit for step in STEPS), *SERVICES}))
ACCOUNTS = (*UNITS, BUILDER, SCHEDULER, WORKFLOW)


def build(app: App, deployment: Deployment) -> None:
    """Puts the environment's stacks into an app, each after those that it needs."""
    BootstrapStack(app, deployment)
    foundation = FoundationStack(app, deployment, ACCOUNTS)
    data = _after(DataStack(app, deployment), [foundation])
    if deployment.release is not None:
        registry = deployment.environment.model_registry is not None
        grants = derive(STEPS, load_declarations(deployment.root), model_registry=registry)
        units = _units(app, deployment, deployment.release, grants, [foundation, data])
        _after(OrchestrationStack(app, deployment, grants), units)
    _after(ObservabilityStack(app, deployment), [data])


def _units(
    app: App, deployment: Deployment, release: Release, grants: Sequence[Grant], before: Sequence[Stack]
) -> list[Stack]:
    sizes = deployment.cloud.sizes
    jobs: dict[str, JobSize] = {
        "batch_scoring": sizes.batch_scoring,
        "monitor": sizes.monitor,
        "trainer": sizes.trainer,
    }
    tracking = _after(TrackingStack(app, "mlflow_server", deployment, release, grants), before)
    # Grants of those that call the tracking server are on its service.
    units: list[Stack] = [
        _after(FunctionStack(app, "ingest_function", deployment, release, grants), before),
        _after(TemplateStack(app, "etl_beam", deployment, release, grants), before),
        *(
            _after(JobStack(app, unit, deployment, release, grants, size), [*before, tracking])
            for unit, size in jobs.items()
        ),
        _after(ServingStack(app, "serving", deployment, release, grants), before),
    ]
    return [tracking, *units]


def _after(stack: Stack, before: Sequence[Stack]) -> Stack:
    for needed in before:
        stack.add_dependency(needed)
    return stack


def synthesize(deployment: Deployment, output: Path) -> None:
    """Writes the stacks of one environment into a folder of its own."""
    # A stack that is no longer there would stay, and be scanned and rehearsed.
    shutil.rmtree(output / "stacks", ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    app = App(outdir=str(output))
    build(app, deployment)
    app.synth()


def main() -> int:
    """Synthesizes; returns the exit status."""
    try:
        deployment = load_deployment()
        if deployment.release is None:
            print(
                f"note: there is no {release_path(deployment.root).name} yet, so no unit is deployed.\n"
                f"  mend: caudal release --env {deployment.name}",
                file=sys.stderr,
            )
        output = Path(os.environ.get(OUTPUT_VARIABLE) or Path("cdktf.out") / deployment.name)
        synthesize(deployment, output)
    except CaudalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
