"""The trainer as Vertex AI starts it: the same arguments as anywhere, AIP_MODEL_DIR, and trials of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.identity import run_id
from caudal.storage.files import file_path, file_uri
from pipeline.runs import begin_run
from tests.trainer.conftest import SETTINGS, arrive
from tests.world import World, day
from trainer.__main__ import run

AS_OF = day("2026-02-15")
SEARCH = {"space": {"max_depth": [1, 4], "learning_rate": [0.05, 0.5]}, "folds": 2}


@pytest.fixture
def arguments(small_contract: Any, local_environment: Environment) -> list[str]:
    """Of a run that has begun, with rows in the warehouse."""
    contract: Contract = small_contract({**SETTINGS, "model.search": SEARCH})
    world = World(contract, local_environment)
    arrive(world, 1600, "2026-01-05", AS_OF)
    begun = begin_run(world.storage, contract, local_environment, AS_OF)
    assert begun.id == run_id(AS_OF)
    return ["--config", begun.config, "--run", begun.uri]


def test_the_steps_run_from_arguments_alone(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIP_MODEL_DIR", file_uri(tmp_path / "model"))
    for step in ("snapshot", "train", "validate", "promote"):
        assert run([step, *arguments]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[3]["version"] == said[2]["refit"]
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {
        "booster.ubj",
        "metadata.json",
        "encoder.json",
    }
    metadata = json.loads((tmp_path / "model" / "metadata.json").read_text())
    assert metadata["version"] == said[1]["version"]
    assert (file_path(arguments[3]) / "promote.json").exists()


def test_a_trial_reports_its_figure_where_vertex_reads_it(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["snapshot", *arguments]) == 0
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(tmp_path / "hp" / "output.metrics"))
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "7")
    assert run(["trial", *arguments, "--max_depth=2.0", "--learning_rate=0.2"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["values"] == {"max_depth": 2, "learning_rate": 0.2}
    (line,) = (tmp_path / "hp" / "output.metrics").read_text().splitlines()
    reported = json.loads(line)
    assert (reported["trial"], float(reported["auc"])) == ("7", printed["value"])
    assert 0.5 < printed["value"] < 1


@pytest.mark.parametrize("word", ["--max_deph=2", "max_depth=2", "--max_depth"])
def test_a_trial_of_something_else_is_refused(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["trial", *arguments, word]) == 2
    assert "is not a searched parameter" in capsys.readouterr().err
