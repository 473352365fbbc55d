"""What the Flex Template's launcher starts: it submits the pipeline's graph, and ends.

The commit, and with it the step's result, is the graph's last transform: nothing here waits, and nothing follows.
Beam's own options (runner, project, workers, network) come from the launcher as further arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, SetupOptions
from apache_beam.runners.runner import PipelineResult

from caudal.errors import CaudalError
from caudal.unit import open_context, record_error
from etl_beam.options import EtlOptions
from etl_beam.step import prepare


def submit(argv: Sequence[str]) -> PipelineResult:
    """Plans the run that the arguments name, and hands its graph to the runner.

    Raises:
        CaudalError: the arguments, the contract or the environment are not as they must be.
    """
    options = PipelineOptions(list(argv))
    parameters = options.view_as(EtlOptions).checked()
    config, run = parameters["config"], parameters["run"]
    assert config is not None
    assert run is not None
    context = open_context(config, run)
    # What an earlier attempt recorded says nothing of this one.
    context.storage.delete(context.run.error_uri("etl"))
    try:
        graph = prepare(context, shards=int(parameters["shards"]) if parameters["shards"] else None)
    except CaudalError as error:
        record_error("etl", context, error)
        raise
    options = PipelineOptions([*context.environment.etl.options, *argv])
    # The transforms lie in modules that the image holds; nothing of this one travels with the graph.
    options.view_as(SetupOptions).save_main_session = False
    # Each thread holds a shard; the work is all computing, so one a process is also the fastest.
    debug = options.view_as(DebugOptions)
    debug.number_of_worker_harness_threads = debug.number_of_worker_harness_threads or 1
    pipeline = Pipeline(options=options)
    graph.build(pipeline)
    return pipeline.run()


def main(argv: Sequence[str] | None = None) -> int:
    try:
        submit(sys.argv[1:] if argv is None else argv)
    except CaudalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
