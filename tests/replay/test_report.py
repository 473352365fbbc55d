"""`caudal report` on what a replay left, beside the replay's own report, and both beside MLflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caudal.tracking import Tracking

from .conftest import CONTRACT, Replayed


@pytest.fixture(scope="module")
def told(repository: Path, replayed: Replayed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    """What `caudal report` prints for machines, and its page."""
    page = tmp_path_factory.mktemp("report") / "page.html"
    paths = os.pathsep.join(str(repository / part) for part in ("libs", "services", "."))
    arguments = ["report", CONTRACT, "--root", str(replayed.folder), "--out", str(page), "--json"]
    answer = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=repository, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(answer.stdout), page.read_text()


def without_frozen(figures: dict[str, Any]) -> dict[str, Any]:
    """The replay's figures as an environment's report has them: it knows no model that was never retrained."""
    part = {"pooled": {"champion": figures["pooled"]["champion"]}}
    quarters = [{name: value for name, value in one.items() if name != "frozen"} for one in figures["quarters"]]
    return {**figures, **part, "quarters": quarters}


def test_it_tells_the_same_as_the_replay_but_for_the_frozen_model(
    replayed: Replayed, told: tuple[Any, str]
) -> None:
    # The sample ends on 17 November 2010, so every label is due by the last run, of 1 December.
    summary, page = told
    ours = {name: value for name, value in summary.items() if not name.startswith("seconds")}
    assert ours == without_frozen(replayed.figures())
    assert "never retrained" not in page


def test_mlflow_shows_the_replay_s_figures_of_both_models(replayed: Replayed) -> None:
    client = Tracking(f"sqlite:///{replayed.folder}/mlflow.db").client
    experiment = client.get_experiment_by_name(f"{CONTRACT}/reports")
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'replay'")
    for model, pooled in replayed.summary["pooled"].items():
        for name, value in pooled.items():
            assert run.data.metrics[f"{model}.{name}"] == value
    for fate, rows in replayed.summary["rows"].items():
        assert run.data.metrics[f"rows.{fate}"] == rows
    page = replayed.report.read_text()
    (table,) = re.findall(r'<table id="quarters">(.*?)</table>', page, re.DOTALL)
    printed = re.findall(r'<td class="n">(-|\d\.\d{3}) ', table)
    for position, model in enumerate(("champion", "frozen")):
        history = client.get_metric_history(run.info.run_id, f"quarter.{model}.auc")
        assert [f"{one.value:.3f}" for one in sorted(history, key=lambda one: one.step)] == printed[position::2]
        for one, quarter in zip(
            sorted(history, key=lambda one: one.step), replayed.summary["quarters"], strict=True
        ):
            assert one.value == pytest.approx(quarter[model]["auc"], abs=1e-6)
