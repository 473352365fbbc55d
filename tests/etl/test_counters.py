"""The figures of a run are Beam's counters too, so that Dataflow's own pages show them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from etl_beam.step import prepare
from etl_beam.transforms import NAMESPACE

PAID = datetime(2020, 3, 2, tzinfo=UTC)


def test_the_counters_say_what_the_result_says(make_world: Any, small_contract: Any) -> None:
    world = make_world(small_contract())
    rows = [{"payment": number % 7, "paid_at": PAID, "items": number} for number in range(10)]
    world.land({"a.csv": [*rows, {"payment": 8, "paid_at": PAID, "channel": "pigeon", "items": -1}]})
    context = world.context()
    graph = prepare(context)
    pipeline = Pipeline(options=PipelineOptions(list(world.environment.etl.options)))
    graph.build(pipeline)
    done = pipeline.run()
    done.wait_until_finish()
    counters = {
        counter.key.metric.name: counter.committed
        for counter in done.metrics().query()["counters"]
        if counter.key.metric.namespace == NAMESPACE
    }
    result = context.storage.read_json(context.run.step_uri("etl"))
    # The payment of no items is refused as well.
    assert result["rejected"] == {"range:items": 2, "value:channel": 1}
    assert counters == {
        "rows_read": result["rows"]["read"],
        "rows_accepted": result["rows"]["read"] - result["rows"]["rejected"],
        "rows_duplicate": result["rows"]["duplicates"],
        "rows_added": result["rows"]["warehouse"],
        "bytes_shuffled": result["bytes_shuffled"],
        "rejected_range:items": 2,
        "rejected_value:channel": 1,
    }
    assert result["rows"] == {"read": 11, "rejected": 2, "duplicates": 2, "removed": 0, "warehouse": 7}
