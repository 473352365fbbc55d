"""The graph: read and check, one row a key, features, files aside, and one commit at the end.

    plan -> read, check -> (by key) settle -> (by each entity) windows -> stage -\\
                 \\-> refused -> stage -------------------------------------------+-> facts -> (one key) commit

Everything that has an effect lies inside the graph: on Dataflow `main` only submits it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import apache_beam as beam

from etl_beam.shuffle import Shard
from etl_beam.transforms import (
    FACTS,
    REJECTED,
    ROWS,
    STREAMS,
    AddWindows,
    MakeCommit,
    PlanStreams,
    ReadRows,
    SettleKeys,
    StageRejected,
    Stream,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl_beam.job import Job
    from etl_beam.sources import Source
    from etl_beam.windows import EntityWindows


def build_pipeline(
    pipeline: beam.Pipeline, job: Job, sources: Sequence[Source], windows: Sequence[EntityWindows]
) -> None:
    """Adds the whole transformation to a pipeline; nothing is read or written here.

    Args:
        pipeline: an empty pipeline, for any runner.
        job: what is transformed.
        windows: the contract's windows, one shuffle for each entity.
        sources: what is read; none when there is nothing new, or when the commit is made already.
    """
    planned = (
        pipeline
        | "Run" >> beam.Create([job.commit], reshuffle=False)
        | "Plan streams"
        >> beam.ParDo(PlanStreams(job, tuple(sources)))
        .with_output_types(Stream, **{FACTS: Shard})
        .with_outputs(FACTS, main=STREAMS)
    )
    read = (
        planned[STREAMS]
        | "One stream a worker" >> beam.GroupByKey()
        | "Read and check"
        >> beam.ParDo(ReadRows(job))
        .with_output_types(Shard, **{REJECTED: Shard, FACTS: Shard})
        .with_outputs(REJECTED, FACTS, main=ROWS)
    )
    settled = (
        read[ROWS]
        | "By key" >> beam.GroupByKey()
        | "Settle keys"
        >> beam.ParDo(SettleKeys(job)).with_output_types(Shard, **{FACTS: Shard}).with_outputs(FACTS, main=ROWS)
    )
    facts = [planned[FACTS], read[FACTS], settled[FACTS]]
    rows = settled[ROWS]
    for step, group in enumerate(windows):
        featured = (
            rows
            | f"By {group.entity}" >> beam.GroupByKey()
            | f"Windows of {group.entity}"
            >> beam.ParDo(AddWindows(job, step))
            .with_output_types(Shard, **{FACTS: Shard})
            .with_outputs(FACTS, main=ROWS)
        )
        facts.append(featured[FACTS])
        rows = featured[ROWS]
    refused = (
        read[REJECTED]
        | "Refused rows" >> beam.GroupByKey()
        | "Stage refused rows" >> beam.ParDo(StageRejected(job)).with_output_types(Shard)
    )
    (
        (*facts, refused)
        | "All facts" >> beam.Flatten()
        | "One key" >> beam.GroupByKey()
        | "Commit" >> beam.ParDo(MakeCommit(job))
    )
