"""How a service runs one of its steps as a process of its own: a job, a container, a Dataflow launcher.

    python -m trainer train --config gs://artifacts/config/<sha> --run gs://artifacts/runs/<contract>/<run>

The configuration folder holds `contract.yaml` and `environment.yaml` as they were when the run began; the run's
folder holds `run.json` and the results of the steps before. The step's result is written there last.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from caudal.backends import storage_for
from caudal.contract import parse_contract
from caudal.environment import parse_environment
from caudal.errors import CaudalError, NotFound
from caudal.step import Run, StepContext, StepResult
from caudal.storage import Storage, join

CONTRACT_FILE = "contract.yaml"
ENVIRONMENT_FILE = "environment.yaml"
RUN_FILE = "run.json"

UnitStep = Callable[[StepContext], StepResult | None]
Result = TypeVar("Result", bound=StepResult | None)


class RecordedResults(Mapping[str, StepResult]):
    """The results of a run's steps, read from the run's folder when they are asked for."""

    def __init__(self, storage: Storage, run: Run) -> None:
        self._storage = storage
        self._run = run

    def __getitem__(self, step: str) -> StepResult:
        try:
            result: StepResult = self._storage.read_json(self._run.step_uri(step))
        except NotFound as error:
            raise KeyError(step) from error
        return result

    def __iter__(self) -> Iterator[str]:
        for name in self._storage.names(self._run.uri):
            if name.endswith(".json") and name != RUN_FILE:
                yield name.removesuffix(".json")

    def __len__(self) -> int:
        return sum(1 for _ in self)


def open_context(config_uri: str, run_uri: str) -> StepContext:
    """What a step is given, from the URIs that a job was started with."""
    storage = storage_for(config_uri)
    contract_uri = join(config_uri, CONTRACT_FILE)
    environment_uri = join(config_uri, ENVIRONMENT_FILE)
    contract = parse_contract(storage.read(contract_uri).decode(), contract_uri)
    environment = parse_environment(storage.read(environment_uri).decode(), environment_uri)
    run = Run.from_json(storage.read_json(join(run_uri, RUN_FILE)))
    return StepContext(contract, environment, run, RecordedResults(storage, run))


def run_step(step: str, function: Callable[[StepContext], Result], context: StepContext) -> Result:
    """Runs a step and records its result in the run's folder; the record is the step's last act.

    A task that is one of several side by side gives None, and records nothing, unless it was the last. A typed
    error is recorded beside the results: a workflow that started this process can't catch it.
    """
    error_uri = context.run.error_uri(step)
    try:
        result = function(context)
    except CaudalError as error:
        record_error(context, step, error)
        raise
    if result is not None:
        context.storage.write_json(context.run.step_uri(step), result)
        context.storage.delete(error_uri)
    return result


def record_error(context: StepContext, step: str, error: CaudalError, *, final: bool = True) -> None:
    """Says beside a run's results what a step failed of, for a workflow that can't catch it.

    Args:
        context: the run.
        step: the step's name.
        error: what a person must mend.
        final: whether another attempt would fail alike, so that the workflow makes none.
    """
    context.storage.write_json(context.run.error_uri(step), {"error": str(error), "final": final})


def main(unit: str, steps: Mapping[str, UnitStep], argv: Sequence[str] | None = None) -> int:
    """The command line of a unit; returns the exit status and prints the step's result as JSON."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {unit}", description=__doc__.split("\n\n")[0] if __doc__ else ""
    )
    parser.add_argument("step", choices=sorted(steps))
    parser.add_argument("--config", required=True, metavar="URI", help="folder with contract and environment")
    parser.add_argument("--run", required=True, metavar="URI", help="folder of the run")
    arguments = parser.parse_args(argv)
    try:
        context = open_context(arguments.config, arguments.run)
        result = run_step(arguments.step, steps[arguments.step], context)
    except CaudalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps(result, sort_keys=True))
    return 0
