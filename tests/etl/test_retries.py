"""A bundle that fails is tried again: its first attempt's files and parts are nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from etl_beam.transforms import AddWindows, MakeCommit, PlanStreams, ReadRows, SettleKeys, StageRejected

MONDAY = datetime(2020, 3, 2, 12, tzinfo=UTC)
WINDOWS = [
    {"entity": "customer", "lengths": ["1d"], "values": {"count": "*"}},
    {"entity": "channel", "lengths": ["7d"], "values": {"sum": "amount"}},
]
TRANSFORMS = (PlanStreams, ReadRows, SettleKeys, AddWindows, StageRejected, MakeCommit)


def payments(first: int, last: int) -> list[dict[str, Any]]:
    from decimal import Decimal

    return [
        {
            "payment": number % 40,
            "paid_at": MONDAY + timedelta(hours=7 * (number % 29)),
            "amount": Decimal(number),
            "items": 1 if number % 7 else -1,
            "customer": f"c{number % 5}",
            "channel": ("web", "app")[number % 2],
        }
        for number in range(first, last)
    ]


@pytest.mark.parametrize("produced", [1, None], ids=["after its first output", "after its last output"])
def test_bundles_that_fail_once_leave_what_a_clean_run_leaves(
    make_world: Any, small_contract: Any, monkeypatch: pytest.MonkeyPatch, produced: int | None
) -> None:
    monkeypatch.setattr("etl_beam.step.ROWS_A_SHARD", 20)
    clean, retried = (
        make_world(small_contract({"features.windows": WINDOWS}), shards=3) for _ in ("clean", "retried")
    )
    failed: list[str] = []

    def failing_first(transform: Any) -> Any:
        process = transform.process

        def twice(self: Any, element: Any) -> Iterator[Any]:
            # Beam's local runner has no retries. On Dataflow the outputs of an attempt that fails go nowhere, what
            # it did outside stays done, and a fresh transform gets the same bundle.
            for _ in islice(process(self, element), produced):
                pass
            self.finish_bundle()
            failed.append(type(self).__name__)
            self.setup()
            yield from process(self, element)

        return twice

    for number, files in enumerate(
        [{"a.csv": payments(0, 60)}, {"a.csv": payments(30, 80), "b.csv": payments(5, 9)}]
    ):
        for world in (clean, retried):
            world.land(files)
            with monkeypatch.context() as patched:
                if world is retried:
                    for transform in TRANSFORMS:
                        patched.setattr(transform, "process", failing_first(transform))
                world.run()
        assert {transform.__name__ for transform in TRANSFORMS} == set(failed), number
        ours, theirs = retried.rows(), clean.rows()
        assert len(theirs) > 20
        for row in (*ours, *theirs):
            # The two worlds lie in different folders.
            row["_source_uri"] = row["_source_uri"].rsplit("/", 1)[1]
        assert ours == theirs
        refused = "SELECT _content, _row, _load_id FROM warehouse.payments_rejected ORDER BY _load_id, _row"
        assert retried.query(refused) == clean.query(refused) != []
        covered = "SELECT load_id, commit_id FROM warehouse._covered ORDER BY load_id"
        assert retried.query(covered) == clean.query(covered)
        assert retried.results[-1] == clean.results[-1]
        context = retried.context()
        staging = retried.environment.staging("payments", "etl")
        assert [found.name for found in context.storage.objects(staging)] == []
        failed.clear()
