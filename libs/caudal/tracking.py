"""MLflow: runs, and a registry that follows the promotion ledger.

MLflow gives its own ids, so every call here looks for Caudal's tag before it creates anything: a step that is
repeated adds nothing. What is live is said by the ledger; the aliases `champion` and `challenger` follow it, and
a package's version is a tag of the model version, whose own number is never an identity.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from caudal.storage.port import join

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

    from caudal.environment import Environment
    from caudal.promotions import Promotion, Promotions

KEY_TAG = "caudal.key"
VERSION_TAG = "caudal.version"
CHAMPION = "champion"
CHALLENGER = "challenger"

_LONGEST_VALUE = 5000
# MLflow takes at most so many figures at once, and these characters in the name of one.
_MOST_FIGURES = 1000
_NOT_IN_A_NAME = re.compile(r"[^\w .:/-]", re.ASCII)
_clients: dict[str, MlflowClient] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class Point:
    """One figure of a series: its step, its instant, its value."""

    step: int
    at: datetime
    value: float | None


class Tracking:
    """The tracking server of an environment.

    Args:
        uri: MLflow's tracking URI, such as `sqlite:///path` or `https://host`.
        artifacts: where a new experiment keeps artifacts; the server decides when it is absent.
    """

    def __init__(self, uri: str, artifacts: str | None = None) -> None:
        self._uri = uri
        self._artifacts = artifacts

    @staticmethod
    def of(environment: Environment) -> Tracking:
        """The tracking of an environment; a database file has no server that could say where artifacts go."""
        local = environment.tracking.startswith("sqlite:")
        return Tracking(environment.tracking, join(environment.places.artifacts, "mlflow") if local else None)

    @property
    def client(self) -> MlflowClient:
        """MLflow's client; the first use in a process imports MLflow, and makes a new database."""
        with _guard:
            if self._uri not in _clients:
                _clients[self._uri] = _connect(self._uri)
            return _clients[self._uri]

    def record(
        self,
        experiment: str,
        key: str,
        *,
        name: str,
        at: datetime,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        series: Mapping[str, Sequence[Point]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """One finished run, found again by its key.

        Args:
            experiment: the contract's name, or one below it such as `bank/tune`.
            key: the identity of what is recorded; the same key is the same run.
            name: what MLflow shows.
            at: the instant of the figures, the run's as-of.
            metrics: figures; those that are None, NaN or infinite are left out.
            series: figures that have steps; the same are left out.

        Returns:
            MLflow's id of the run.
        """
        from mlflow.entities import Metric, Param, RunTag

        moment = int(at.timestamp() * 1000)
        where = self._experiment(experiment)
        found = self._find(where, key)
        if found is not None and found.info.status == "FINISHED":
            return str(found.info.run_id)
        if found is None:
            found = self.client.create_run(where, start_time=moment, tags={KEY_TAG: key}, run_name=name)
        run_id = str(found.info.run_id)
        points = {k: [Point(0, at, v)] for k, v in (metrics or {}).items()} | dict(series or {})
        figures = [
            Metric(_NOT_IN_A_NAME.sub("_", k), float(p.value), int(p.at.timestamp() * 1000), p.step)
            for k, inner in points.items()
            for p in inner
            if p.value is not None and math.isfinite(p.value)
        ]
        for start in range(0, len(figures), _MOST_FIGURES):
            self.client.log_batch(run_id, metrics=figures[start : start + _MOST_FIGURES])
        self.client.log_batch(
            run_id,
            params=[Param(k, str(v)[:_LONGEST_VALUE]) for k, v in (parameters or {}).items()],
            tags=[RunTag(k, str(v)[:_LONGEST_VALUE]) for k, v in (tags or {}).items()],
        )
        self.client.set_terminated(run_id, "FINISHED", end_time=moment)
        return run_id

    def register(
        self, model: str, version: str, package: str, *, run_id: str | None = None, tags: Mapping[str, str]
    ) -> ModelVersion:
        """The registered model's version for a package, made when there is none."""
        found = self.find_version(model, version)
        if found is not None:
            return found
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.client.create_model_version(
            model, source=package, run_id=run_id, tags={**tags, VERSION_TAG: version}
        )

    def find_version(self, model: str, version: str) -> ModelVersion | None:
        """MLflow's model version that carries a package's version as its tag."""
        query = f"name = '{model}' AND tag.`{VERSION_TAG}` = '{version}'"
        found = self.client.search_model_versions(query, max_results=1)
        return found[0] if found else None

    def follow(self, model: str, promotions: Promotions, tags: Mapping[str, str] | None = None) -> None:
        """Sets the aliases to what the ledger says; a version that MLflow does not know yet is registered."""
        for alias, entry in ((CHAMPION, promotions.head()), (CHALLENGER, promotions.challenger())):
            if entry is not None:
                version = self.register(model, entry.version, entry.package, tags=_tags(entry, tags))
                if alias not in version.aliases:
                    self.client.set_registered_model_alias(model, alias, version.version)
            elif self._has_alias(model, alias):
                self.client.delete_registered_model_alias(model, alias)

    def _has_alias(self, model: str, alias: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return alias in self.client.get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = join(self._artifacts, name) if self._artifacts else None
        try:
            return str(self.client.create_experiment(name, artifact_location=place))
        except MlflowException as error:  # another thread or process was first
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            made = self.client.get_experiment_by_name(name)
            if made is None:
                raise
            return str(made.experiment_id)

    def _find(self, experiment_id: str, key: str) -> Any:
        found = self.client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return found[0] if found else None


def _connect(uri: str) -> MlflowClient:
    # Set before the import: MLflow reads it then.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking._model_registry.client"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _tags(entry: Promotion, tags: Mapping[str, str] | None) -> dict[str, str]:
    said = {"snapshot": entry.snapshot, "reason": entry.reason, "commit": entry.commit}
    return {**{k: v for k, v in said.items() if v}, **(tags or {})}
