"""Caudal's ETL step with what is shuffled in the shuffle itself, as a cluster's runner gets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.etl.workspace import Workspace, open_context, run_engine


def run(workspace: Workspace, folder: Path) -> None:
    """Runs the step on a copy of the base."""
    from etl_beam.step import etl

    context = open_context(folder)
    inline = context.environment.etl.model_copy(update={"spill": None})
    etl(replace(context, environment=context.environment.model_copy(update={"etl": inline})))


if __name__ == "__main__":
    run_engine(run)
