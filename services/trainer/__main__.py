"""`python -m trainer STEP --config URI --run URI`: a Cloud Run job, or for `train` a Vertex AI custom job.

`trial` instead of a step is one trial of a search (see `trainer.trial`).

Vertex AI gives AIP_MODEL_DIR, where it looks for a job's model: the candidate's files are copied there.
AIP_CHECKPOINT_DIR is not used: a training that is restarted begins again, and ends in the same bytes.
"""

from __future__ import annotations

import sys

from caudal.unit import main
from trainer.job import train_as_job
from trainer.step import promote, snapshot, validate

STEPS = {"snapshot": snapshot, "train": train_as_job, "validate": validate, "promote": promote}


def run(argv: list[str]) -> int:
    """Runs what the arguments name; returns the exit status."""
    if argv[:1] == ["trial"]:
        from trainer.trial import main as trial

        return trial(argv[1:])
    return main("trainer", STEPS, argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
