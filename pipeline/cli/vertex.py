"""What `caudal train` and `caudal tune` share on Vertex AI: the run that a job works for, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caudal.contract import Contract
    from infra.environments import Deployment
    from infra.release import Release
    from trainer.vertex import JobSettings


@dataclass(frozen=True)
class JobPlace:
    """A run, begun or not, and the place of a job that works for it."""

    contract: Contract
    deployment: Deployment
    release: Release
    as_of: datetime

    @property
    def run(self) -> str:
        """The run's folder."""
        from caudal.identity import run_id

        return self.deployment.environment.runs(self.contract.name, run_id(self.as_of))

    @property
    def config(self) -> str:
        """Where the contract and the environment as they are here are published, or would be."""
        from pipeline.runs import config_uri

        return config_uri(self.contract, self.deployment.environment)

    @property
    def name(self) -> str:
        """A name for the job, which tells the run."""
        from caudal.identity import run_id

        return f"{self.contract.name}-{run_id(self.as_of)}".lower().replace("_", "-")

    @property
    def parent(self) -> str:
        """The project and region, as the API wants them."""
        return f"projects/{self.deployment.names.project}/locations/{self.deployment.names.region}"

    @property
    def endpoint(self) -> str:
        return f"{self.deployment.names.region}-aiplatform.googleapis.com"

    def arguments(self, step: str, config: str) -> list[str]:
        """The arguments of `python -m trainer`."""
        return [step, "--config", config, "--run", self.run]

    def settings(self, output: str) -> JobSettings:
        """The trainer's image, account and machine.

        Args:
            output: the folder within the run's for what Vertex AI lets jobs write.
        """
        from infra.targets import targets
        from pipeline.steps import BY_NAME
        from trainer.vertex import JobSettings

        there = targets(self.deployment)
        return JobSettings(
            image=self.deployment.names.image("trainer", self.release.digest("trainer")),
            account=there.training.account,
            output=f"{self.run}/{output}",
            timeout_seconds=BY_NAME["train"].timeout_minutes * 60,
            machine_type=there.training.machine_type,
            strategy=there.training.strategy,
            labels=there.labels,
        )

    def begin(self) -> str:
        """Begins the run, or finds it; returns the configuration that it keeps."""
        from caudal.backends import open_storage
        from pipeline.release.units import baked
        from pipeline.runs import begin_run

        environment = self.deployment.environment
        trainer = baked(self.release.content("trainer"))
        return begin_run(open_storage(environment), self.contract, environment, self.as_of, trainer=trainer).config


def job_place(contract: str, env: str, as_of: datetime | None) -> JobPlace:
    """Finds the contract, the environment and what is released; nothing is written.

    Raises:
        ReleaseError: no image of the trainer is known.
    """
    from caudal.identity import floor_to
    from infra.environments import load_deployment
    from infra.release import ReleaseError
    from pipeline.project import find_contract, project_root

    deployment = load_deployment(env, project_root())
    if deployment.release is None:
        raise ReleaseError(
            "no image of the trainer is known: nothing was built yet",
            where="release.json",
            mend=f"build it: caudal release --env {deployment.name} --unit trainer",
        )
    moment = as_of or floor_to(datetime.now(UTC), deployment.environment.schedule.every)
    return JobPlace(find_contract(contract), deployment, deployment.release, moment)
