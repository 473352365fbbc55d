"""The single steps as commands; each can be called again at any time."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from pipeline.cli.options import as_of_option, contract_argument, environment_options, json_option
from pipeline.steps import BY_NAME


def _command(name: str) -> click.Command:
    step = BY_NAME[name]
    before = f" It needs the results of {' and '.join(step.after)} of the same as-of." if step.after else ""

    @click.command(name, help=f"Run the step '{name}' of CONTRACT: {step.does}.{before}",
                   epilog=f"Example: `caudal {name} bank_marketing --as-of 2010-06-01`.")  # fmt: skip
    @contract_argument
    @as_of_option
    @environment_options
    @json_option
    def command(contract: str, as_of: datetime | None, env: str, root: Path | None, as_json: bool) -> None:
        from pipeline.cli.output import show_json
        from pipeline.cli.run import begin, brief
        from pipeline.local_executor import LocalExecutor

        run = begin(contract, env, root, as_of)
        result = LocalExecutor().execute_step(run, name)
        if as_json:
            show_json(result)
        else:
            click.echo(f"{name} of run {run.id}: {brief(result)}")

    return command


ingest = _command("ingest")
etl = _command("etl")
score = _command("score")
inputs = _command("inputs")
outcomes = _command("outcomes")
snapshot = _command("snapshot")
validate = _command("validate")
promote = _command("promote")
