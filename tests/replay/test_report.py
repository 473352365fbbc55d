"""`caudal report` on what a replay left, beside the replay's own report, and both beside MLflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sklearn.metrics import roc_auc_score

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


def test_it_tells_the_same_of_runs_rows_and_alarms_as_the_replay(
    replayed: Replayed, told: tuple[Any, str]
) -> None:
    summary, page = told
    judged = {"pooled", "quarters"}
    ours = {
        name: value for name, value in summary.items() if not name.startswith("seconds") and name not in judged
    }
    assert ours == {name: value for name, value in replayed.figures().items() if name not in judged}
    assert "never retrained" not in page


def test_it_judges_only_labels_that_are_due_by_the_last_run(replayed: Replayed, told: tuple[Any, str]) -> None:
    with duckdb.connect(str(replayed.folder / "caudal.duckdb"), read_only=True) as connection:
        rows = connection.sql(
            "SELECT (w.y = 'yes')::int AS label, p.score FROM warehouse.bank_marketing w JOIN "
            "predictions.bank_marketing p ON p.key = w.contact_id WHERE w.contact_date <= '2010-11-17'::date"
        ).fetchnumpy()
    champion = told[0]["pooled"]["champion"]
    assert champion["n"] == len(rows["label"]) < replayed.summary["pooled"]["champion"]["n"]
    assert champion["auc"] == pytest.approx(roc_auc_score(rows["label"], rows["score"]), abs=1e-6)


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
