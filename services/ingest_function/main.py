"""The Cloud Function: an HTTP target that makes one call of the ingest step.

    functions-framework --source services/ingest_function/main.py --target ingest

It is posted `{"config": URI, "run": URI}` and answers with the step's result; the workflow calls again until
`done`. A call that was cut off can be made again: see `ingest_function.step`.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import functions_framework

from caudal.errors import CaudalError, UsageError
from caudal.unit import open_context, run_step
from ingest_function.step import ingest as ingest_step

if TYPE_CHECKING:
    from flask import Request

log = logging.getLogger(__name__)
Answer = tuple[str, int, dict[str, str]]


@functions_framework.http
def ingest(request: Request) -> Answer:
    """Makes one call.

    Answers 400 for a request that can't be served, 503 where the same call may succeed later, 500 for any other
    failure, each with a mend.
    """
    try:
        posted = request.get_json(silent=True)
        if not isinstance(posted, dict) or not {"config", "run"} <= posted.keys():
            raise UsageError("the body is not as expected", mend='post {"config": "<URI>", "run": "<URI>"}')
        result = run_step("ingest", ingest_step, open_context(posted["config"], posted["run"]))
    except CaudalError as error:
        log.exception("ingest failed")
        status = 400 if error.exit_status == 2 else 503 if error.transient else 500
        return _answer({"error": error.what, "where": error.where, "mend": error.mend}, status)
    return _answer(result, 200)


def _answer(body: object, status: int) -> Answer:
    return json.dumps(body, sort_keys=True), status, {"Content-Type": "application/json"}
