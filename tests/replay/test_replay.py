"""31 months of a real bank's campaigns: what the system reached, and that it reaches it again."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from .conftest import CONTRACT, replay, start

SUMMARY_KEYS = {
    "contract", "as_of_first", "as_of_last", "rows", "files_quarantined", "runs", "retrainings",
    "candidates_refused", "promotions", "trials", "alarms", "pooled", "quarters", "rejected_by_reason",
    "bytes_shuffled", "by_run", "seconds", "seconds_by_step", "seconds_by_run",
}  # fmt: skip


def results(replayed):
    """The results of every run, oldest first."""
    runs = sorted((replayed.folder / "artifacts" / "runs" / CONTRACT).glob("*/record.json"))
    return [json.loads(path.read_text())["results"] for path in runs]


def test_the_summary_has_the_shape_that_it_promises(replayed):
    summary = replayed.summary
    assert set(summary) == SUMMARY_KEYS
    assert set(summary["rows"]) == {
        "landed", "quarantined", "lake", "duplicates", "rejected", "removed", "warehouse", "scored"}  # fmt: skip
    for model in ("champion", "frozen"):
        assert set(summary["pooled"][model]) == {"n", "auc", "average_precision", "log_loss"}
    for run in summary["by_run"]:
        assert set(run) == {"as_of", "rows", "rebuilt", "rejected_by_reason", "bytes_shuffled"}
        assert set(run["rows"]) == {
            "landed", "quarantined", "read", "rejected", "duplicates", "removed", "warehouse", "scored",
        }  # fmt: skip
    for quarter in summary["quarters"]:
        assert set(quarter) == {"quarter", "n", "champion", "frozen"}
    for alarm in summary["alarms"]:
        assert set(alarm) == {"as_of", "kind", "feature", "value", "threshold"}


def test_every_row_is_accounted_for(replayed):
    rows = replayed.summary["rows"]
    assert rows["landed"] == 45211
    assert rows["landed"] == rows["quarantined"] + rows["lake"]
    assert rows["lake"] == rows["duplicates"] + rows["rejected"] + rows["removed"] + rows["warehouse"]
    by_run = [run["rows"] for run in replayed.summary["by_run"]]
    for fate in set(rows) - {"lake"}:
        assert sum(run[fate] for run in by_run) == rows[fate], fate
    for run in by_run:
        assert run["read"] == run["rejected"] + run["duplicates"] + run["removed"] + run["warehouse"]


def test_the_retrained_model_keeps_its_quality_and_the_frozen_one_does_not(replayed):
    pooled = replayed.summary["pooled"]
    assert pooled["champion"]["auc"] >= 0.75
    assert 0.52 <= pooled["frozen"]["auc"] <= 0.60
    assert pooled["champion"]["log_loss"] < pooled["frozen"]["log_loss"]


def test_the_pooled_figures_are_those_of_an_independent_library_on_the_stored_predictions(replayed):
    with duckdb.connect(str(replayed.folder / "caudal.duckdb"), read_only=True) as connection:
        rows = connection.sql(
            "SELECT (w.y = 'yes')::int AS label, p.score FROM warehouse.bank_marketing w "
            "JOIN predictions.bank_marketing p ON p.key = w.contact_id"
        ).fetchnumpy()
    champion = replayed.summary["pooled"]["champion"]
    label, score = np.asarray(rows["label"]), np.asarray(rows["score"])
    assert champion["n"] == len(label)
    assert champion["auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-6)
    assert champion["average_precision"] == pytest.approx(average_precision_score(label, score), abs=1e-6)
    assert champion["log_loss"] == pytest.approx(log_loss(label, score), abs=1e-6)


def test_each_row_was_scored_by_the_model_that_was_live_before_it_arrived(replayed):
    ledger = sorted((replayed.folder / "artifacts" / "ledger" / CONTRACT / "promotions").glob("*.json"))
    promotions = [json.loads(path.read_text()) for path in ledger]
    with duckdb.connect(str(replayed.folder / "caudal.duckdb"), read_only=True) as connection:
        scored = connection.sql(
            """
            SELECT strftime(w._first_as_of AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ'), p.model_version, count(*)
            FROM warehouse.bank_marketing w JOIN predictions.bank_marketing p ON p.key = w.contact_id
            GROUP BY ALL
            """
        ).fetchall()
    assert scored
    for arrived, version, _ in scored:
        live = [entry["version"] for entry in promotions if entry["as_of"] < arrived]
        assert version == live[-1]


def test_no_label_counted_before_it_was_due(replayed):
    for path in (replayed.folder / "artifacts" / "runs" / CONTRACT).glob("*/record.json"):
        record = json.loads(path.read_text())
        if "snapshot" not in record["results"]:
            continue
        as_of = record["run"]["as_of"]
        (manifest,) = (replayed.folder / "artifacts" / "snapshots" / CONTRACT).glob(
            f"{record['results']['snapshot']['snapshot']}/MANIFEST.json"
        )
        due = datetime.fromisoformat(as_of) - timedelta(days=14)
        ((latest,),) = duckdb.sql(f"SELECT max(contact_date) FROM '{manifest.parent}/*/*.parquet'").fetchall()
        assert latest <= due.date(), (as_of, latest)


def test_an_alarm_caused_a_retraining_and_a_candidate_was_refused_with_the_reason(replayed):
    all_results = results(replayed)
    caused = [
        result for result in all_results
        if result["outcomes"]["retrain"] and {"drift", "quality"} & set(result["outcomes"]["reasons"])
    ]  # fmt: skip
    assert caused
    for result in caused:
        assert result["inputs"]["alarms"] or result["outcomes"]["alarms"]
    refused = [r["validate"] for r in all_results if "validate" in r and not r["validate"]["passed"]]
    assert len(refused) == replayed.summary["candidates_refused"] >= 1
    assert all(verdict["reason"] for verdict in refused)
    assert replayed.summary["retrainings"] >= 1


def test_drift_of_inputs_is_told_apart_from_loss_of_quality(replayed):
    def found(as_of):
        alarms = [a for a in replayed.summary["alarms"] if a["as_of"].startswith(as_of)]
        return {a["feature"] for a in alarms if a["kind"] == "drift"}, {a["kind"] for a in alarms}

    # The few calls of October 2008 went to fixed telephones, those of November to customers of earlier campaigns:
    # seen at once, long before the labels.
    for as_of, feature in (("2008-11-01", "contact"), ("2008-12-01", "poutcome")):
        drifted, kinds = found(as_of)
        assert feature in drifted
        assert "quality" not in kinds
    # By the new year the labels of November are due, and tell that the model has become worse.
    drifted, kinds = found("2009-01-01")
    assert "quality" in kinds
    assert "contact" not in drifted


def test_progress_and_summary_tell_of_each_month_and_what_to_do_next(replayed):
    assert "2008-05" in replayed.output
    assert "2010-11" in replayed.output
    assert "promoted" in replayed.output
    assert "refused" in replayed.output
    after = replayed.output.split("Next:")[1].strip().splitlines()
    assert len(after) == 3


def test_no_value_that_never_may_be_used_reaches_a_model(replayed):
    encoders = list(replayed.folder.glob("models/bank_marketing/xgboost/*/*/encoder.json"))
    assert encoders
    for path in encoders:
        assert "duration" not in path.read_text()


def test_calling_it_again_runs_nothing_and_changes_nothing(repository, replayed):
    before = {path: path.stat().st_mtime_ns for path in replayed.folder.rglob("*") if path.is_file()}
    again = replay(repository, replayed.folder)
    assert "Nothing has changed" in again.output
    assert again.summary == replayed.summary
    assert {path: path.stat().st_mtime_ns for path in replayed.folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_starting_over_gives_the_same_figures_and_the_same_models(repository, replayed, tmp_path):
    folder = tmp_path / CONTRACT
    shutil.copytree(replayed.folder, folder)
    fresh = replay(repository, folder, "--fresh")
    assert fresh.figures() == replayed.figures()
    assert fresh.versions() == replayed.versions()


@pytest.mark.slow
def test_a_replay_that_is_killed_again_and_again_ends_in_the_same_summary(repository, replayed, tmp_path):
    folder = tmp_path / CONTRACT
    moments = random.Random(20081105)
    kills = 0
    for _ in range(5):
        process = start(repository, folder)
        try:
            process.communicate(timeout=moments.uniform(4, 14))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
    assert kills >= 3
    finished = replay(repository, folder)
    assert finished.figures() == replayed.figures()
    assert finished.versions() == replayed.versions()
