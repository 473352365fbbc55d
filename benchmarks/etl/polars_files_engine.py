"""Polars from Parquet to Parquet: the job without the warehouse."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.etl.polars_engine import run_to_files as run
from benchmarks.etl.workspace import Workspace

if __name__ == "__main__":
    run(Workspace(Path(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]))
