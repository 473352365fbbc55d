"""The `caudal` command line.

Each command is a module of its own and is imported only when it is called, so that help and short commands start
at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from caudal.errors import CaudalError

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (module, attribute, help in one line)
    "replay": ("replay", "command", "Replay a data set's history: months of operation in a minute."),
    "run": ("run", "command", "Run the pipeline once, as of now or of a given instant."),
    "check": ("check", "command", "Check a contract, and with --data a file against it."),
    "schema": ("schema", "command", "Print the tables of a contract with their BigQuery schemas."),
    "runs": ("runs", "command", "List runs, or show what became of one."),
    "report": ("report", "command", "Write what happened as one page: quality, alarms, drift, rows."),
    "models": ("models", "command", "List, show, compare, promote and roll back models."),
    "tune": ("tune", "command", "Search parameters; ends in a proposed edit of the contract."),
    "serve": ("serve", "command", "Serve the live model on this machine: a page, an API, metrics."),
    "simulate": ("simulate", "command", "Write a simulated data set as files that land."),
    "ingest": ("steps", "ingest", "Step: load landed files into the lake, each once."),
    "etl": ("steps", "etl", "Step: check, deduplicate, derive features."),
    "score": ("steps", "score", "Step: score each new row once."),
    "backfill": ("backfill", "command", "Score what arrived before there was a model."),
    "inputs": ("steps", "inputs", "Step: watch what comes in."),
    "outcomes": ("steps", "outcomes", "Step: watch quality, decide on retraining."),
    "snapshot": ("steps", "snapshot", "Step: fix the due, labelled rows."),
    "train": ("train", "command", "Step: train a candidate, here or on Vertex AI."),
    "validate": ("steps", "validate", "Step: judge the candidate beside the champion."),
    "promote": ("steps", "promote", "Step: make a candidate that passed live."),
    "doctor": ("doctor", "command", "Cloud: find what a deployment lacks, and tell the mend."),
    "cost": ("cost", "command", "Cloud: estimate a month, idle and running, before a deployment."),
    "release": ("release", "command", "Cloud: build images and zips by content; write release.json."),
    "plan": ("plan", "plan_command", "Cloud: tell what a deployment would change."),
    "apply": ("plan", "apply_command", "Cloud: deploy exactly what was planned."),
    "publish": ("release", "publish_command", "Cloud: end a deployment; start a run of the new code."),
}


class _Lazy(click.Group):
    """A group that knows its commands' names and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"pipeline.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if close:
                raise click.UsageError(f"{error.message} Did you mean '{close[0]}'?", ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples: `caudal replay CONTRACT`, `caudal check CONTRACT`, `caudal run --help`.",
)
@click.version_option(package_name="caudal", prog_name="caudal")
def cli() -> None:
    """From landed files to a monitored, continuously retrained model."""


def main() -> None:
    """Runs the command line; a Caudal error ends it with a message and the error's exit status."""
    import logging
    import os

    from caudal.errors import CaudalError, UsageError

    level = os.environ.get("CAUDAL_LOG", "WARNING").upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(level=known.get(level, logging.WARNING), format="%(levelname)s %(name)s: %(message)s")
    # Beam misses, when it is imported, what only its own BigQuery source needs; on a laptop nothing is wrong.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    try:
        if level not in known:
            raise UsageError(f"CAUDAL_LOG is '{level}'", mend=f"choose one of {', '.join(known)}")
        cli(standalone_mode=False)
    except CaudalError as error:
        from pipeline.cli.output import show_error

        show_error(error)
        sys.exit(error.exit_status)
    except OSError as error:
        from pipeline.cli.output import show_error

        logging.getLogger("caudal").debug("raised here:", exc_info=True)
        show_error(_of_the_system(error))
        sys.exit(CaudalError.exit_status)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except Exception as error:
        if not _without_credentials(error):
            raise
        from pipeline.cli.output import show_error

        show_error(
            CaudalError(
                "Google Cloud does not know who is calling",
                mend="gcloud auth application-default login, then `caudal doctor` tells what else is missing",
            )
        )
        sys.exit(CaudalError.exit_status)


def _of_the_system(error: OSError) -> CaudalError:
    """What the system refused (a folder that can't be written, a full disk), as errors are told."""
    from caudal.errors import CaudalError

    return CaudalError(
        (error.strerror or str(error)).lower(),
        where=str(error.filename or ""),
        mend="make room or give access, or name another place; CAUDAL_LOG=DEBUG tells what was being done",
    )


def _without_credentials(error: BaseException) -> bool:
    """Whether Google's library found no credentials; by names, so that nothing of Google's is imported here."""
    return (type(error).__module__, type(error).__name__) in {
        ("google.auth.exceptions", "DefaultCredentialsError"),
        ("google.auth.exceptions", "RefreshError"),
    }
