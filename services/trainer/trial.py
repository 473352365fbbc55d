"""`python -m trainer trial --config URI --run URI --max_depth=4 ...`: one trial of a search on Vertex AI.

Vertex AI adds the trial's parameters to the arguments, and reads the figure from a file of JSON lines that it
names in CLOUD_ML_HP_METRIC_FILE, in the form that its `cloudml-hypertune` package writes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caudal.errors import CaudalError, UsageError
from caudal.unit import open_context
from trainer.search import Values, evaluate, metric_name
from trainer.snapshot import open_snapshot

if TYPE_CHECKING:
    from caudal.contract import Contract

METRIC_FILE = "CLOUD_ML_HP_METRIC_FILE"
TRIAL_ID = "CLOUD_ML_TRIAL_ID"
_DEFAULT_FILE = "/tmp/hypertune/output.metrics"


def main(argv: Sequence[str]) -> int:
    """Evaluates the parameters on the run's snapshot and reports the metric; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer trial", description="One trial of a search.")
    parser.add_argument("--config", required=True, metavar="URI")
    parser.add_argument("--run", required=True, metavar="URI")
    arguments, rest = parser.parse_known_args(argv)
    try:
        context = open_context(arguments.config, arguments.run)
        values = parameters(context.contract, rest)
        taken = open_snapshot(context.contract, context.storage, context.results["snapshot"]["uri"])
        figures = evaluate(context.contract, taken, values)
    except CaudalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    value = float(np.mean(figures))
    report(metric_name(context.contract), value)
    print(json.dumps({"value": value, "folds": figures, "values": values}, sort_keys=True))
    return 0


def parameters(contract: Contract, words: Sequence[str]) -> Values:
    """The trial's parameters from words such as `--max_depth=4`.

    Raises:
        UsageError: a word is none, or names what the contract does not search.
    """
    searched = contract.model.search.space if contract.model.search else {}
    found: Values = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or name not in searched:
            raise UsageError(
                f"'{word}' is not a searched parameter",
                mend=f"write --NAME=VALUE with one of {', '.join(searched)}",
            )
        found[name] = _value(value)
    return found


def report(metric: str, value: float) -> None:
    """Writes the figure where Vertex AI reads it."""
    path = Path(os.environ.get(METRIC_FILE, _DEFAULT_FILE))
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "timestamp": time.time(),
        "trial": os.environ.get(TRIAL_ID, "0"),
        metric: str(value),
        "global_step": "1",
        "checkpoint_path": "",
    }
    path.write_text(json.dumps(line, sort_keys=True) + "\n", encoding="utf-8")


def _value(text: str) -> float | int | str:
    """Vertex AI writes whole numbers as `4` or `4.0`."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
