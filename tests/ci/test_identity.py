"""CI's identity follows from the environment's file and the bootstrap stack's names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.release.identity import POOL, identity, main


def test_the_identity_is_that_of_the_environments_project() -> None:
    assert identity("dev", "plan") == {
        "provider": "projects/100000000001/locations/global/workloadIdentityPools/github/providers/github",
        "account": "caudal-ci-plan@caudal-dev-000000.iam.gserviceaccount.com",
        "registry": "europe-west1-docker.pkg.dev",
    }


def test_the_bootstrap_stack_makes_a_pool_of_this_name(repository: Path) -> None:
    stack = (repository / "infra" / "stacks" / "bootstrap.py").read_text()
    assert f'POOL = "{POOL}"' in stack


def test_an_unknown_deployer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", "destroy"]) == 2
    assert "plan or apply" in capsys.readouterr().err
