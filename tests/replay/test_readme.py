"""What a replay tells to do next runs, and the README's figures are those of the replay."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import pytest


def test_the_next_steps_that_a_replay_names_run(repository, replayed):
    assert replayed.report.exists()
    (history,) = re.findall(r"caudal (models history .*)", replayed.output)
    paths = os.pathsep.join(str(repository / part) for part in ("libs", "services", "."))
    answer = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *shlex.split(history), "--json"],
        cwd=repository, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(answer.stdout)
    assert len(told if isinstance(told, list) else told["history"]) == len(replayed.versions())


@pytest.mark.parametrize("model", ["champion", "frozen"])
def test_the_figures_of_the_readme_are_those_of_the_replay(repository, replayed, model):
    text = " ".join((repository / "README.md").read_text().split())
    told = re.search(r"AUC of \*\*([.\d]+)\*\*, and the first model, never retrained, \*\*([.\d]+)\*\*", text)
    assert told, "the README no longer tells the figures"
    said = float(told[1] if model == "champion" else told[2])
    assert replayed.summary["pooled"][model]["auc"] == pytest.approx(said, abs=0.0006)
