"""The etl step: the lake's gain becomes checked, deduplicated rows with features in the warehouse."""

from __future__ import annotations

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from caudal.step import StepContext, StepResult
from caudal.tables import covered_table, lake_table, rejected_table, warehouse_table
from etl_beam.facts import Facts
from etl_beam.job import Job
from etl_beam.pipeline import build_pipeline
from etl_beam.plan import Plan, fix_plan, recorded_result
from etl_beam.sink import result_of
from etl_beam.sources import sources
from etl_beam.windows import windows_by_entity

ROWS_A_SHARD = 400_000


def etl(context: StepContext) -> StepResult:
    """Transforms the loads that no commit covers yet, and waits for the pipeline.

    The loads are fixed when the step first starts in a run; a repeated step works on the same, and returns the
    same when its commit was made before.

    Returns:
        `commit` (null when nothing was new), the number of `loads`, `rows` (`read` in the lake's gain, `rejected`,
        `duplicates`, and the net growth of the `warehouse`), `rejected` by reason, and `bytes_shuffled`.
    """
    contract = context.contract
    with context.warehouse:
        context.warehouse.ensure_tables(
            [lake_table(contract), warehouse_table(contract), rejected_table(contract), covered_table()]
        )
        plan = fix_plan(context)
        if not plan.new:
            return result_of(None, 0, Facts())
        recorded = recorded_result(context, plan)
        if recorded is not None:
            return recorded
        job = Job.of(context, plan, shards(context, plan))
        with Pipeline(options=PipelineOptions(list(context.environment.etl.options))) as pipeline:
            build_pipeline(pipeline, job, sources(plan), windows_by_entity(contract))
        result: StepResult = context.storage.read_json(context.run.step_uri("etl"))
        return result


def shards(context: StepContext, plan: Plan) -> int:
    """So many shards that each has about half a million rows, at most as many as the environment allows."""
    return min(context.environment.etl.shards, 1 + plan.all_rows // ROWS_A_SHARD)
