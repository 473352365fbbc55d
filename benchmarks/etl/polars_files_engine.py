"""Polars from Parquet to Parquet: the job without the warehouse."""

from __future__ import annotations

from benchmarks.etl.polars_engine import run_to_files as run
from benchmarks.etl.workspace import run_engine

if __name__ == "__main__":
    run_engine(run)
