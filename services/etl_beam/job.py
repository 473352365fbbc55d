"""What every transform is given: a few short texts, opened once in each worker process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from caudal.contract import parse_contract
from caudal.environment import parse_environment
from caudal.step import Run, StepContext
from caudal.tables import LINEAGE
from etl_beam.parts import InlineParts, Parts, SpilledParts, spill_folder
from etl_beam.plan import Plan, folder
from etl_beam.windows import windows_by_entity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etl_beam.windows import EntityWindows


@dataclass(frozen=True)
class Job:
    """A run's texts, and how its rows are spread; this alone travels with the graph.

    Attributes:
        contract: the contract as it was written.
        environment: the environment with every place resolved.
        run: the run as JSON.
        commit: the identity under which the run's folder holds the plan.
        shards: how many shards a shuffle has.
        slices: entities that are cut into slices of time (`etl_beam.slices`).
        days: between which rows may come, go or change, as ISO dates (`etl_beam.sources.moving_days`).
    """

    contract: str
    environment: str
    run: str
    commit: str
    shards: int = 1
    slices: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()
    days: tuple[str, str] | None = None

    @staticmethod
    def of(context: StepContext, plan: Plan, shards: int) -> Job:
        return Job(
            context.contract.text,
            context.environment.to_yaml(),
            json.dumps(context.run.to_json(), sort_keys=True),
            plan.commit,
            shards,
        )

    def open(self) -> OpenJob:
        """The job with contract, plan and adapters; a worker process opens it once."""
        return _open(self)


class OpenJob:
    """A job in a worker."""

    def __init__(self, job: Job) -> None:
        self.shards = job.shards
        self.slices = dict(job.slices)
        self.days = (
            None if job.days is None else (date.fromisoformat(job.days[0]), date.fromisoformat(job.days[1]))
        )
        self.context = StepContext(
            parse_contract(job.contract), parse_environment(job.environment), Run.from_json(json.loads(job.run))
        )
        self.contract = self.context.contract
        self.storage = self.context.storage
        self.warehouse = self.context.warehouse
        self.plan = Plan.from_json(self.storage.read_json(folder(self.context.run, job.commit, "plan.json")))

    def parts(self) -> Parts:
        """How parts of tables cross this job's shuffles; each transform has its own."""
        folder = spill_folder(self.context)
        return InlineParts() if folder is None else SpilledParts(folder)

    @cached_property
    def windows(self) -> tuple[EntityWindows, ...]:
        """The contract's windows; each entity is one step of the pipeline."""
        return windows_by_entity(self.contract)

    @cached_property
    def load_ids(self) -> pa.Array:
        """The ids of the plan's loads, in its order."""
        return pa.array([load.load_id for load in self.plan.loads], pa.string())

    @cached_property
    def superseded(self) -> NDArray[np.bool_]:
        """For each of the plan's loads, whether a newer generation has replaced it."""
        gone = frozenset(self.plan.superseded)
        return np.array([load.load_id in gone for load in self.plan.loads], bool)

    @cached_property
    def lineage(self) -> pa.Table:
        """For each of the plan's loads, the lineage columns that its rows share."""
        from caudal.identity import parse_instant

        loads = self.plan.loads
        values = {
            "_source_uri": [load.uri for load in loads],
            "_source_generation": [load.generation for load in loads],
            "_load_id": [load.load_id for load in loads],
            "_ingested_at": [parse_instant(load.landed_at) for load in loads],
        }
        return pa.table({f.name: pa.array(values[f.name], f.type) for f in LINEAGE if f.name in values})


@lru_cache(maxsize=4)
def _open(job: Job) -> OpenJob:
    return OpenJob(job)
