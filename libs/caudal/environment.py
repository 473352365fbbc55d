"""The environment: the one file that differs between a laptop and production.

`file://` or `gs://`, `duckdb:` or `bigquery:`, sizes, schedules, destinations of alarms, budget. No service asks
where it runs; it opens what the environment names (`caudal.backends`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from caudal.cloud_environment import Cloud
from caudal.contract.values import Duration
from caudal.errors import InvalidEnvironment, Problem
from caudal.serving_environment import ServingSettings
from caudal.storage.files import file_uri
from caudal.storage.port import join
from caudal.yaml_document import Document, MalformedYaml, Section, problems_from, read_document, write_document


def _place(uri: str) -> str:
    if "{root}" in uri:
        raise ValueError("it lies below {root}, and this environment has no root")
    if not re.fullmatch(r"(file|gs)://[^{}]+", uri):
        raise ValueError("a place is a URI with file:// or gs://")
    return uri


Place = Annotated[str, AfterValidator(_place)]


class Places(Section):
    """Where objects lie, all in one storage. `{root}` stands for the environment's root.

    Attributes:
        landing: where files land, in a folder a contract.
        artifacts: ledger, runs, staging, quarantine, snapshots, published states of entities and configuration.
        models: model packages.
    """

    landing: Place
    artifacts: Place
    models: Place

    @model_validator(mode="after")
    def _one_storage(self) -> Places:
        if len({uri.split("://")[0] for uri in (self.landing, self.artifacts, self.models)}) > 1:
            raise ValueError("landing, artifacts and models lie in different storages")
        return self


class Ingest(Section):
    """How much one call of the ingest function takes on, and what it refuses.

    Attributes:
        budget_bytes: a call stops taking objects once it has read so many bytes.
        budget_time: a call stops taking objects after this time.
        largest_object_bytes: a larger object is refused, since it could never finish within a call.
    """

    budget_bytes: int = Field(default=2_000_000_000, gt=0)
    budget_time: Duration = Field(default="20m", validate_default=True)
    largest_object_bytes: int = Field(default=8_000_000_000, gt=0)


class Etl(Section):
    """How the Beam pipeline runs.

    Attributes:
        options: Beam's own pipeline options, passed on as they are.
        shards: at most so many shards in a shuffle; a run takes one for every 200,000 rows that it may read.
        spill: for a runner that keeps shuffles in memory: a folder of this machine for what would be in them. In
            the cloud the runner has shuffles of its own.
    """

    options: tuple[str, ...] = ()
    shards: int = Field(default=64, gt=0, le=4096)
    spill: str | None = None


class Schedule(Section):
    """How often a run starts; as-of instants are floored to this period.

    Attributes:
        every: the length of the period.
    """

    every: Duration = Field(default="1d", validate_default=True)


class AlarmDestination(Section):
    """Where alarms go.

    Attributes:
        type: what kind of place. What goes to `log` is written whatever the level of `CAUDAL_LOG`. In a cloud,
            alert policies read what `monitoring` writes and tell `cloud.alarm_emails`; so an environment in a
            cloud without it is refused.
        path: the file, for `file`.
    """

    type: Literal["console", "log", "file", "monitoring"]
    path: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _a_file_has_a_path(self) -> AlarmDestination:
        if self.type == "file" and self.path is None:
            mend = "add 'path', or choose another type"
            raise PydanticCustomError("no_path", "a destination of type 'file' has no path", {"mend": mend})
        return self


class VertexRegistry(Section):
    """Vertex AI's Model Registry, if it is to follow the promotion ledger.

    Attributes:
        project: of the registry.
        region: of the registry.
        image: the serving image that versions are registered with.
    """

    project: str
    region: str
    image: str


class Environment(Section):
    """One place in which Caudal runs.

    Attributes:
        environment: version of this format.
        name: as `--env` names it.
        root: the folder below which a laptop keeps everything; cloud environments have none.
        warehouse: `duckdb:<path>` or `bigquery:<project>`.
        tracking: MLflow's tracking URI.
        alarms: where alarms go; an environment without a destination is refused.
        rollout: whether a candidate that passed the gate is live at once, or a challenger first.
        model_registry: Vertex AI's Model Registry, where it follows the ledger beside MLflow.
        serving: how the server runs, and what a challenger does.
        cloud: the Google Cloud project; a laptop has none.
    """

    environment: Literal[1]
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    root: str = ""
    places: Places
    warehouse: str = Field(pattern=r"^(duckdb|bigquery):.+")
    tracking: str
    ingest: Ingest = Ingest()
    etl: Etl = Etl()
    schedule: Schedule = Schedule()
    alarms: tuple[AlarmDestination, ...] = Field(min_length=1)
    rollout: Literal["champion", "challenger"] = "champion"
    model_registry: VertexRegistry | None = None
    serving: ServingSettings = ServingSettings()
    cloud: Cloud | None = None

    @property
    def root_path(self) -> Path:
        """The root as an absolute path."""
        return Path(self.root).absolute()

    def landing(self, contract: str) -> str:
        """Where files of a contract land."""
        return join(self.places.landing, contract)

    def ledger(self, contract: str, *parts: str) -> str:
        """Where the ledger of a contract lies."""
        return join(self.places.artifacts, "ledger", contract, *parts)

    def runs(self, contract: str, *parts: str) -> str:
        """Where the runs of a contract are recorded."""
        return join(self.places.artifacts, "runs", contract, *parts)

    def staging(self, contract: str, *parts: str) -> str:
        """Where Parquet waits to be loaded."""
        return join(self.places.artifacts, "staging", contract, *parts)

    def quarantine(self, contract: str, *parts: str) -> str:
        """Where lines and files go that can't be read."""
        return join(self.places.artifacts, "quarantine", contract, *parts)

    def snapshots(self, contract: str, *parts: str) -> str:
        """Where snapshots of training rows lie."""
        return join(self.places.artifacts, "snapshots", contract, *parts)

    def states(self, contract: str, *parts: str) -> str:
        """Where the published state of entities lies."""
        return join(self.places.artifacts, "states", contract, *parts)

    def packages(self, contract: str, model_type: str, *parts: str) -> str:
        """Where model packages lie, by type and version."""
        return join(self.places.models, contract, model_type, *parts)

    def candidates(self, contract: str, *parts: str) -> str:
        """Where candidates lie that were trained to be judged; what is served lies with the packages."""
        return join(self.places.artifacts, "candidates", contract, *parts)

    def config(self, digest: str, *parts: str) -> str:
        """Where one version of the contract and the environment is published."""
        return join(self.places.artifacts, "config", digest, *parts)

    def to_yaml(self) -> str:
        """The environment as services are given it and `parse_environment` reads it back.

        Every place is resolved. The cloud section is left out: services don't read it, and a change of a size must
        not look like another configuration.
        """
        return write_document(self.model_dump(mode="json", exclude={"cloud"}), sort_keys=True)


def parse_environment(text: str, name: str = "environment", root: Path | None = None) -> Environment:
    """Parses an environment.

    Args:
        text: YAML.
        name: the file's name, for messages.
        root: replaces the file's own root, as `--root` does.

    Raises:
        InvalidEnvironment: with file, line and mend of every problem.
    """
    try:
        document = read_document(text, name)
        values = dict(document.values)
        if root is not None:
            values["root"] = str(root)
        if isinstance(values.get("root"), str) and values["root"]:
            values["root"] = str(Path(values["root"]).absolute())
            values = _resolved(values, Path(values["root"]))
        environment = Environment.model_validate(values)
    except MalformedYaml as malformed:
        raise InvalidEnvironment([malformed.problem]) from malformed
    except ValidationError as error:
        raise InvalidEnvironment(problems_from(error, document, Environment)) from error
    problems = list(_problems_in_a_cloud(environment, document)) if environment.cloud else []
    if problems:
        raise InvalidEnvironment(problems)
    return environment


def _problems_in_a_cloud(environment: Environment, document: Document) -> Iterator[Problem]:
    """What a laptop may do, and a cloud can't."""
    if all(one.type != "monitoring" for one in environment.alarms):
        yield Problem(
            document.where(("alarms",)),
            "'alarms': no destination of type 'monitoring', so in the cloud no alarm would reach anybody",
            "add {type: monitoring}",
        )
    if environment.etl.spill is not None:
        yield Problem(
            document.where(("etl", "spill")), "'etl.spill': workers in the cloud share no folder", "leave it out"
        )


def load_environment(path: Path, root: Path | None = None) -> Environment:
    """Reads an environment from a file.

    Raises:
        InvalidEnvironment: the file is missing, or has problems.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        mend = f"environments here: {', '.join(near) or 'none'}"
        raise InvalidEnvironment([Problem(str(path), "there is no such environment", mend)]) from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        what = "the environment is a folder" if path.is_dir() else "the environment is not text in UTF-8"
        raise InvalidEnvironment([Problem(str(path), what, "name a YAML file, saved as UTF-8")]) from error
    return parse_environment(text, str(path), root)


def _resolved(value: Any, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(inner, root) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(inner, root) for inner in value]
    if isinstance(value, str):
        return value.replace("file://{root}", file_uri(root)).replace("{root}", str(root))
    return value
