"""The stacks of every environment, synthesized once, without cloud or terraform, with a made-up release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from infra.environments import Deployment, load_deployment
from infra.release import Release, load_release
from tests.infra.support import ENVIRONMENTS, FIXTURES, ROOT, Stacks, read_stacks


@pytest.fixture(scope="session")
def release() -> Release:
    found = load_release(FIXTURES / "release.json")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def deployments(release: Release) -> dict[str, Deployment]:
    return {name: replace(load_deployment(name, ROOT), release=release) for name in ENVIRONMENTS}


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Deployment], Stacks]:
    """Synthesizes a deployment and gives its stacks by name."""
    from infra.main import synthesize

    def make(deployment: Deployment) -> Stacks:
        output = tmp_path_factory.mktemp("stacks")
        synthesize(deployment, output)
        return read_stacks(output)

    return make


@pytest.fixture(scope="session")
def environments(
    deployments: dict[str, Deployment], synthesized: Callable[[Deployment], Stacks]
) -> dict[str, Stacks]:
    """The stacks of dev, staging and prod."""
    return {name: synthesized(deployment) for name, deployment in deployments.items()}


@pytest.fixture(params=ENVIRONMENTS)
def stacks(request: pytest.FixtureRequest, environments: dict[str, Stacks]) -> Stacks:
    return environments[request.param]
