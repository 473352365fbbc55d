"""The way out: Parquet aside under the commit's identity, then one commit, then the step's result."""

from __future__ import annotations

import uuid
from datetime import UTC, date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from caudal.entity_state import Publications
from caudal.identity import parse_instant
from caudal.storage import join
from caudal.tables import rejected_table, warehouse_table
from caudal.warehouse import Commit, Replacement
from etl_beam.checks import CONTENT, REASONS
from etl_beam.plan import folder, recorded_result
from etl_beam.rows import lineage

if TYPE_CHECKING:
    from etl_beam.facts import Facts
    from etl_beam.job import OpenJob
    from etl_beam.plan import Plan


def stage(job: OpenJob, table: pa.Table, kind: str) -> str:
    """Writes a table as a Parquet file that nobody reads until a commit names it; a retry writes another."""
    uri = join(_staging(job), f"{kind}-{uuid.uuid4().hex}.parquet")
    texts = [field.name for field in table.schema if not pa.types.is_primitive(field.type)]
    with job.storage.writer(uri) as stream:
        pq.write_table(
            table, stream, compression="snappy", write_statistics=False, use_dictionary=texts, store_schema=False
        )
    return uri


def as_rejected_rows(job: OpenJob, table: pa.Table) -> pa.Table:
    """Refused rows as the warehouse's table of rejected rows holds them."""
    target = rejected_table(job.contract)
    columns = {REASONS: table[REASONS], CONTENT: table[CONTENT], **lineage(job, table)}
    return pa.table({name: columns[name] for name in target.schema.names})


def finish(job: OpenJob, facts: Facts) -> dict[str, Any]:
    """Makes the commit and records the result; repeated, it changes nothing and returns the same.

    The result is recorded before the commit, so whoever finds the commit made finds the result as well.
    """
    context, plan = job.context, job.plan
    recorded = recorded_result(context, plan) if plan.new else None
    result = recorded if recorded is not None else make_result(job, facts)
    if recorded is None and plan.new:
        context.storage.write_json(folder(context.run, plan.commit, "result.json"), result)
        context.warehouse.commit(_commit(job, facts))
    if plan.new:
        # Servers look up what entities did last. Published after the commit, and by a repeated attempt as well.
        publications = Publications(context.storage, context.environment, context.contract)
        publications.publish(context.warehouse, plan.commit, context.run.as_of)
    context.storage.write_json(context.run.step_uri("etl"), result)
    context.storage.delete(context.run.error_uri("etl"))
    for left in list(context.storage.objects(_staging(job))):
        context.storage.delete(left.uri)
    return result


def make_result(job: OpenJob, facts: Facts) -> dict[str, Any]:
    """The step's result. Every good row that brought no new key is a duplicate."""
    return result_of(job.plan if job.plan.new else None, facts)


def result_of(plan: Plan | None, facts: Facts) -> dict[str, Any]:
    """What a plan, or a run that had none, came to."""
    return {
        "commit": plan.commit if plan else None,
        "loads": len(plan.new) if plan else 0,
        "rebuilt": list(plan.rebuilt) if plan else [],
        "rows": {
            "read": facts.read,
            "rejected": facts.read - facts.good,
            "duplicates": facts.good - facts.added,
            "removed": facts.left,
            "warehouse": facts.added - facts.left,
        },
        "rejected": dict(sorted(facts.rejected.items())),
        "bytes_shuffled": facts.bytes_shuffled,
    }


def _commit(job: OpenJob, facts: Facts) -> Commit:
    plan, anew = job.plan, bool(job.plan.rebuilt)
    replacements = []
    if facts.rows or facts.removed or anew:
        replacements.append(
            Replacement(
                warehouse_table(job.contract),
                tuple(facts.rows),
                job.contract.key,
                tuple(facts.removed),
                tuple(date.fromisoformat(day) for day in sorted(facts.partitions)),
                whole=anew,
            )
        )
    if facts.rejects or anew:
        landed = {parse_instant(load.landed_at).astimezone(UTC).date() for load in plan.loads} if anew else ()
        replacements.append(
            Replacement(
                rejected_table(job.contract), tuple(facts.rejects), partitions=tuple(sorted(landed)), whole=anew
            )
        )
    return Commit(
        plan.commit,
        job.contract.name,
        tuple(replacements),
        plan.new,
        job.context.run.as_of,
        plan.after,
        plan.rows_digests,
    )


def _staging(job: OpenJob) -> str:
    return job.context.environment.staging(job.contract.name, "etl", job.plan.commit)
