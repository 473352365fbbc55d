"""An A/B loop on a laptop: gate, challenger in the shadow, trial, and its end."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import duckdb
import pytest

from .conftest import CONTRACT, Replayed, replay

UNTIL = "2009-02-01"
"""By then the first challenger's trial is over."""


@pytest.fixture(scope="module")
def with_trials(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """A replay of the sample's first nine months in which candidates go on trial."""
    folder = tmp_path_factory.mktemp("rollout")
    sample = folder / "sample"
    sample.mkdir()
    with (
        gzip.open(repository / "data" / CONTRACT / f"{CONTRACT}.csv.gz", "rt", newline="") as source,
        (sample / f"{CONTRACT}.csv").open("w", newline="") as target,
    ):
        rows = csv.DictReader(source)
        writer = csv.DictWriter(target, rows.fieldnames or [])
        writer.writeheader()
        writer.writerows(row for row in rows if row["contact_date"] < UNTIL)
    return replay(repository, folder / CONTRACT, "--data", str(sample), "--rollout", "challenger")


def ledger(replayed: Replayed) -> list[dict[str, object]]:
    entries = sorted((replayed.folder / "artifacts" / "ledger" / CONTRACT / "promotions").glob("*.json"))
    return [json.loads(path.read_text()) for path in entries]


def test_a_candidate_that_passed_the_gate_goes_on_trial_and_the_trial_ends(with_trials: Replayed) -> None:
    first, challenger, end = ledger(with_trials)[:3]
    assert (first["role"], challenger["role"], end["role"]) == ("champion", "challenger", "champion")
    evidence = end["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["challenger"] == challenger["version"]
    assert evidence["verdict"] in ("promote", "drop")
    assert end["version"] == (challenger if evidence["verdict"] == "promote" else first)["version"]
    assert end["as_of"] > challenger["as_of"] > first["as_of"]


def test_while_on_trial_it_scores_what_arrives_and_nobody_acts_on_it(with_trials: Replayed) -> None:
    _, challenger, end = ledger(with_trials)[:3]
    with duckdb.connect(str(with_trials.folder / "caudal.duckdb"), read_only=True) as connection:
        query = "SELECT model_version, count(*), max(as_of) FROM predictions.bank_marketing{} GROUP BY ALL"
        shadow = connection.sql(query.format("_shadow")).fetchall()
        live = {version for version, _, _ in connection.sql(query.format("")).fetchall()}
    rows = {version: count for version, count, _ in shadow}
    assert rows[challenger["version"]] > 500
    arrived = [run["rows"]["scored"] for run in with_trials.summary["by_run"]
               if str(challenger["as_of"]) < run["as_of"] <= str(end["as_of"])]  # fmt: skip
    assert rows[challenger["version"]] == sum(arrived)
    assert challenger["version"] not in live


def test_the_summary_the_output_and_the_report_tell_of_the_trial(with_trials: Replayed) -> None:
    trials = with_trials.summary["trials"]
    assert trials["begun"] >= 1
    assert trials["promoted"] + trials["dropped"] >= 1
    assert "on trial" in with_trials.output
    assert "challenger promoted" in with_trials.output or "challenger dropped" in with_trials.output
    page = with_trials.report.read_text()
    assert 'class="event trial"' in page
    assert "challengers on trial" in page
