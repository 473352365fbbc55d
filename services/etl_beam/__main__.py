"""`python -m etl_beam etl --config URI --run URI`: runs the step in this process and waits for it."""

from __future__ import annotations

from caudal.unit import main
from etl_beam.step import etl

if __name__ == "__main__":
    raise SystemExit(main("etl_beam", {"etl": etl}))
