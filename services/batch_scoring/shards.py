"""One task of several: its own part of the result, and the sum of all parts once they are there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from batch_scoring.step import Shard, score
from caudal.step import StepContext, StepResult
from caudal.storage import join


def score_shard(context: StepContext, shard: Shard) -> StepResult | None:
    """Scores one shard; returns the step's whole result when every other shard has recorded its part, else None.

    Two tasks that end at the same time may both find every part: they then return the same sum.
    """
    folder = join(context.run.uri, "score")
    context.storage.write_json(_part_uri(folder, shard), score(context, shard))
    others = [Shard(index, shard.count) for index in range(shard.count)]
    uris = [_part_uri(folder, other) for other in others]
    if not all(context.storage.exists(uri) for uri in uris):
        return None
    return _sum([context.storage.read_json(uri) for uri in uris])


def _part_uri(folder: str, shard: Shard) -> str:
    return join(folder, f"{shard.index:04d}-of-{shard.count:04d}.json")


def _sum(parts: list[dict[str, Any]]) -> StepResult:
    by_version: Counter[str] = Counter()
    for part in parts:
        by_version.update(part["by_version"])
    sums = {name: sum(part[name] for part in parts) for name in ("rows", "shadow", "seconds")}
    return {**parts[0], **sums, "by_version": dict(sorted(by_version.items()))}
