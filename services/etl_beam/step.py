"""The etl step: the lake's gain becomes checked, deduplicated rows with features in the warehouse."""

from __future__ import annotations

from dataclasses import dataclass, replace

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from caudal.step import StepContext, StepResult
from caudal.tables import covered_table, lake_table, rejected_table, warehouse_table
from etl_beam.facts import Facts
from etl_beam.job import Job
from etl_beam.parts import spilling
from etl_beam.pipeline import build_pipeline
from etl_beam.plan import Plan, fix_plan, recorded_result
from etl_beam.sink import finish, result_of
from etl_beam.slices import find_slices
from etl_beam.sources import Source, check_days, moving_days, sources
from etl_beam.windows import EntityWindows, windows_by_entity

ROWS_A_SHARD = 200_000


@dataclass(frozen=True)
class Graph:
    """A run's pipeline before it is built.

    Attributes:
        recorded: what the run came to, when an earlier attempt has made its commit.
    """

    plan: Plan
    job: Job
    sources: tuple[Source, ...]
    windows: tuple[EntityWindows, ...]
    recorded: StepResult | None

    def build(self, pipeline: Pipeline) -> None:
        build_pipeline(pipeline, self.job, self.sources, self.windows)


def etl(context: StepContext) -> StepResult:
    """Transforms the loads that no commit covers yet, and waits for the pipeline.

    The loads are fixed when the step first starts in a run; a repeated step works on the same, and returns the
    same when its commit was made before.

    Where a part of the contract that decides what rows are has changed since the last commit, the tables are
    rebuilt from all loads: they hold what one run over everything leaves, and a key keeps its `_first_as_of`.

    Returns:
        `commit` (null when nothing was new), the number of `loads`, the parts of the contract for which the tables
        were `rebuilt`, `rows` (`read` in the lake's gain, `rejected`, `duplicates`, keys that were `removed`, and
        the net growth of the `warehouse`; in a rebuild, those of one run over everything), `rejected` by reason,
        and `bytes_shuffled`.
    """
    with context.warehouse:
        graph = prepare(context)
        if graph.recorded is not None:
            # An attempt may have ended between its commit and what follows it.
            return finish(graph.job.open(), Facts())
        if not graph.plan.new:
            return result_of(None, Facts())
        options = PipelineOptions(list(context.environment.etl.options))
        with spilling(context), Pipeline(options=options) as pipeline:
            graph.build(pipeline)
        result: StepResult = context.storage.read_json(context.run.step_uri("etl"))
        return result


def prepare(context: StepContext, shards: int | None = None) -> Graph:
    """Fixes what the run transforms. Nothing is committed here.

    Args:
        context: the run.
        shards: at most so many shards in a shuffle; else the environment says.
    """
    contract = context.contract
    context.warehouse.ensure_tables(
        [lake_table(contract), warehouse_table(contract), rejected_table(contract), covered_table()]
    )
    plan = fix_plan(context)
    recorded = recorded_result(context, plan) if plan.new else None
    most = shards or context.environment.etl.shards
    job = Job.of(context, plan, min(most, 1 + plan.all_rows // ROWS_A_SHARD))
    if recorded is None:
        check_days(job.open())
        days = moving_days(job.open())
        if days is not None:
            job = replace(job, days=(days[0].isoformat(), days[1].isoformat()))
        job = replace(job, slices=find_slices(job.open()))
    # A run whose commit is made reads nothing, and only records its result again.
    wanted = () if recorded is not None else tuple(sources(plan))
    return Graph(plan, job, wanted, windows_by_entity(contract), recorded)
