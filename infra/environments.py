"""The environment that is deployed: CAUDAL_ENV names it, and everything in it agrees with its cloud section."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from caudal.cloud_environment import Cloud
from caudal.cloud_names import CloudNames
from caudal.contract import Contract, load_contract
from caudal.environment import Environment, load_environment
from caudal.errors import InvalidEnvironment, Problem, UsageError
from infra.release import Release, load_release, release_path

VARIABLE = "CAUDAL_ENV"


@dataclass(frozen=True)
class Deployment:
    """Everything that the stacks are made from.

    Attributes:
        root: the project's folder.
        contracts: every data set in contracts/.
        release: digests of the units; None before the first is built.
    """

    root: Path
    environment: Environment
    cloud: Cloud
    contracts: tuple[Contract, ...]
    release: Release | None

    @property
    def name(self) -> str:
        return self.environment.name

    @property
    def names(self) -> CloudNames:
        return CloudNames(self.cloud)


def load_deployment(name: str | None = None, root: Path | None = None) -> Deployment:
    """Reads the environment, the contracts and the release.

    Args:
        name: of a file in environments/; CAUDAL_ENV where it is left out.
        root: the project's folder.

    Raises:
        UsageError: no environment was named.
        InvalidEnvironment: the environment has problems, or none of it is in a cloud.
        InvalidContract: a contract has problems.
        ReleaseError: the release is not as it must be.
    """
    name = name or os.environ.get(VARIABLE, "")
    root = root or Path(__file__).resolve().parents[1]
    if not name:
        raise UsageError("no environment was named", where=VARIABLE, mend=f"call with {VARIABLE}=dev, for example")
    path = root / "environments" / f"{name}.yaml"
    environment = load_environment(path)
    cloud = environment.cloud
    if cloud is None:
        mend = "deploy one with a 'cloud' section, such as dev"
        raise InvalidEnvironment([Problem(f"{path}:1", f"the environment '{name}' is not in a cloud", mend)])
    problems = [
        Problem(f"{path}:1", f"{key} is '{value}', and the project's is '{expected}'", f"write '{expected}'")
        for key, value, expected in _agreements(environment, CloudNames(cloud))
        if value != expected
    ]
    if problems:
        raise InvalidEnvironment(problems)
    contracts = tuple(load_contract(file) for file in sorted((root / "contracts").glob("*.yaml")))
    return Deployment(root, environment, cloud, contracts, load_release(release_path(root)))


def _agreements(environment: Environment, names: CloudNames) -> list[tuple[str, str, str]]:
    """What the environment says, and what the names of its project ask for."""
    places, registry = environment.places, environment.model_registry
    return [
        ("places.landing", places.landing, f"gs://{names.bucket('landing')}"),
        ("places.artifacts", places.artifacts, f"gs://{names.bucket('artifacts')}"),
        ("places.models", places.models, f"gs://{names.bucket('models')}"),
        ("warehouse", environment.warehouse, f"bigquery:{names.project}"),
        ("tracking", environment.tracking, names.service_url("mlflow_server")),
        # Its right is granted on the project that is deployed.
        *([("model_registry.project", registry.project, names.project)] if registry else []),
    ]
