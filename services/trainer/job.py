"""What a Vertex AI custom job adds to training: the candidate's files at AIP_MODEL_DIR."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from caudal.backends import storage_for
from caudal.folders import open_folder
from caudal.storage import join
from trainer.step import train

if TYPE_CHECKING:
    from caudal.step import StepContext, StepResult

MODEL_DIR = "AIP_MODEL_DIR"


def train_as_job(context: StepContext) -> StepResult:
    """Trains, and copies the candidate to where the job was told to leave its model."""
    result = train(context)
    target = os.environ.get(MODEL_DIR)
    if target and result["package"] is not None:
        folder = open_folder(context.storage, result["package"])
        destination = storage_for(target)
        for name in folder.entries:
            destination.write(join(target, name), folder.read(name))
    return result
