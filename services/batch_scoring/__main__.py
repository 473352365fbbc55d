"""`python -m batch_scoring score --config URI --run URI`: one task of the Cloud Run job, or all of it.

With several tasks (CLOUD_RUN_TASK_INDEX, CLOUD_RUN_TASK_COUNT) each records its own part in the run's folder, and
whoever finds all parts there records the step's result: their sum.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from batch_scoring.shards import score_shard
from batch_scoring.step import Shard, score
from caudal.unit import main


def run() -> int:
    """Scores as the task that the environment variables name."""
    shard = Shard(
        int(os.environ.get("CLOUD_RUN_TASK_INDEX", "0")), int(os.environ.get("CLOUD_RUN_TASK_COUNT", "1"))
    )
    return main("batch_scoring", {"score": score if shard.count == 1 else partial(score_shard, shard=shard)})


if __name__ == "__main__":
    sys.exit(run())
