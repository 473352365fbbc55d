"""The tracking server's container calls MLflow with options that this MLflow has."""

from __future__ import annotations

import pytest

from mlflow_server.__main__ import command

VARIABLES = {
    "DATABASE_USER": "caudal-mlflow-server@bank.iam",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "gs://bank-mlflow",
    "PORT": "8080",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's own, while it is imported
def test_the_server_is_called_with_options_that_it_knows() -> None:
    from mlflow.cli import server

    words = command([], VARIABLES)
    assert words[:2] == ["mlflow", "server"]
    context = server.make_context("server", words[2:], resilient_parsing=True)
    assert context.params["port"] == 8080
    assert (
        context.params["backend_store_uri"] == "postgresql://caudal-mlflow-server%40bank.iam@127.0.0.1:5432/mlflow"
    )
    assert context.params["default_artifact_root"] == "gs://bank-mlflow"
    assert context.params["serve_artifacts"] is False


def test_an_upgrade_is_of_the_same_database() -> None:
    assert command(["upgrade"], VARIABLES)[:3] == ["mlflow", "db", "upgrade"]
    assert command(["upgrade"], VARIABLES)[3] in command([], VARIABLES)


def test_another_argument_is_refused() -> None:
    with pytest.raises(SystemExit, match="usage"):
        command(["downgrade"], VARIABLES)
