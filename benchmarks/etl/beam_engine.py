"""Caudal's own ETL step: from the lake in a DuckDB file to the warehouse in the same file."""

from __future__ import annotations

from pathlib import Path

from benchmarks.etl.workspace import Workspace, open_context, run_engine


def run(workspace: Workspace, folder: Path) -> None:
    """Runs the step on a copy of the base."""
    from etl_beam.step import etl

    etl(open_context(folder))


if __name__ == "__main__":
    run_engine(run)
