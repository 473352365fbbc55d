"""`python -m trainer STEP --config URI --run URI`: a Cloud Run job, or for `train` a Vertex AI custom job.

Vertex AI gives AIP_MODEL_DIR, where it looks for a job's model: the candidate's files are copied there.
AIP_CHECKPOINT_DIR is not used: a training that is restarted begins again, and ends in the same bytes.
"""

from __future__ import annotations

import sys

from caudal.unit import main
from trainer.job import train_as_job
from trainer.step import promote, snapshot, validate

if __name__ == "__main__":
    sys.exit(
        main(
            "trainer",
            {"snapshot": snapshot, "train": train_as_job, "validate": validate, "promote": promote},
        )
    )
