"""`caudal run`: one run of the pipeline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import as_of_option, contract_argument, environment_options, json_option

if TYPE_CHECKING:
    from caudal.step import Run, StepResult
    from pipeline.runs import RunRecord, StepRecord


@click.command(
    "run",
    epilog="Examples: `caudal run bank_marketing`, `caudal run bank_marketing --as-of 2010-06-01 --json`.",
)
@contract_argument
@as_of_option
@click.option("--request", help="A name for a further run of the same as-of.")
@environment_options
@json_option
def command(
    contract: str, as_of: datetime | None, request: str | None, env: str, root: Path | None, as_json: bool
) -> None:
    """Run the pipeline of CONTRACT once.

    The run is named by its as-of instant: one that is complete is not run again, one that was cut off goes on.
    """
    from pipeline.cli.output import show_json
    from pipeline.local_executor import LocalExecutor

    run = begin(contract, env, root, as_of, request)
    record = LocalExecutor(listener=None if as_json else _Lines()).execute(run)
    if as_json:
        show_json(record.to_json())
    else:
        show_record(record)


def begin(
    contract_name: str, env: str, root: Path | None, as_of: datetime | None, request: str | None = None
) -> Run:
    """Begins the run that the options name, or finds it."""
    from caudal.backends import open_storage
    from caudal.identity import floor_to
    from pipeline.project import find_contract, find_environment
    from pipeline.runs import begin_run

    contract = find_contract(contract_name)
    environment = find_environment(env, root)
    # The one place where the clock enters a run: as its as-of, once.
    moment = as_of or floor_to(datetime.now(UTC), environment.schedule.every)
    return begin_run(open_storage(environment), contract, environment, moment, request=request)


class _Lines:
    """Tells of each step in a line."""

    def step_started(self, run: Run, step: str) -> None:
        """A step is told of when it ends."""

    def step_ended(self, run: Run, step: str, record: StepRecord, result: StepResult | None) -> None:
        mark = {"succeeded": "ok", "failed": "FAILED", "skipped": "skipped"}[record.status]
        said = brief(result) if result else record.error
        click.echo(f"{step:<9} {mark:<7} {record.seconds:6.2f} s  {said}")


def brief(result: dict[str, Any]) -> str:
    """The plain figures of a step's result, on one line."""
    shown = []
    for name, value in result.items():
        if isinstance(value, list):
            shown.append(f"{name}={len(value)}")
        elif isinstance(value, (str, int, float, bool)) and len(str(value)) < 60:
            shown.append(f"{name}={value}")
    return "  ".join(shown)


def show_record(record: RunRecord) -> None:
    """Prints what became of a run, in one line."""
    seconds = sum(step.seconds for step in record.steps.values())
    click.echo(f"run {record.run.id} of {record.run.contract}: {record.status}, {seconds:.1f} s of work")
