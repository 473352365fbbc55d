"""The score step: new keys in, predictions out, each key once.

A key is scored by the champion that was live when it first arrived. Keys that have a prediction are left alone,
so a run also catches up with what an earlier one did not finish. Rows stream from the warehouse as Arrow, through
the package, into one Parquet file a model version; each file is loaded once, under an id made of run, version and
shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_scoring.predictions import predict
from caudal.errors import UsageError
from caudal.identity import digest
from caudal.promotions import Promotion, Promotions
from caudal.sql import quoted
from caudal.step import StepContext, StepResult
from caudal.tables import predictions_table, warehouse_table

if TYPE_CHECKING:
    from caudal.package import ModelPackage

NO_CHAMPION = "no champion"
Choose = Callable[[datetime], Promotion | None]
Act = Literal["score", "backfill"]


@dataclass(frozen=True)
class Shard:
    """One of several tasks that score side by side; each row belongs to exactly one."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"there is no task {self.index} of {self.count}", mend="count tasks from 0 up to their number"
            )


WHOLE = Shard()


def score(context: StepContext, shard: Shard = WHOLE) -> StepResult:
    """Scores the keys that have arrived since there is a champion and have no prediction yet.

    Returns:
        `rows`: predictions that this run made; `model_version`: the champion of this as-of; `by_version`; `reason`
        when there is no champion.
    """
    promotions = Promotions(context.storage, context.environment.ledger(context.contract.name, "promotions"))
    champion = promotions.live_at(context.run.as_of)
    if champion is None:
        return {"rows": 0, "model_version": None, "by_version": {}, "reason": NO_CHAMPION}
    lives = _Lives(promotions)
    made = _score_pending(context, shard, lives.at, lives.first, "score")
    return {
        "rows": sum(made.values()),
        "model_version": champion.version,
        "by_version": made,
        "reason": None,
    }


def backfill(context: StepContext, version: str | None = None) -> StepResult:
    """Scores, with the model that is live now, every key that has no prediction: those that came before any model.

    Args:
        version: the version that the caller takes to be live.

    Raises:
        UsageError: there is no champion, or another version is live. Predictions are what the live model said,
            once; rescoring them with another model is an evaluation and belongs elsewhere.
    """
    promotions = Promotions(context.storage, context.environment.ledger(context.contract.name, "promotions"))
    champion = promotions.head()
    if champion is None:
        raise UsageError("there is no champion", where=context.contract.name, mend="train and promote a model")
    if version not in (None, champion.version):
        raise UsageError(
            f"the live model is {champion.version}, and predictions are made by the live model only",
            where=context.contract.name,
            mend=f"leave the version out, or make {version} live first (`caudal models promote`)",
        )
    made = _score_pending(context, WHOLE, lambda first_as_of: champion, None, "backfill")
    return {
        "rows": sum(made.values()),
        "model_version": champion.version,
        "by_version": made,
        "reason": None,
    }


class _Lives:
    """Which champion was live when, asked of the ledger once an instant."""

    def __init__(self, promotions: Promotions) -> None:
        self._promotions = promotions
        self._known: dict[datetime, Promotion | None] = {}

    def at(self, first_as_of: datetime) -> Promotion | None:
        if first_as_of not in self._known:
            self._known[first_as_of] = self._promotions.live_at(first_as_of)
        return self._known[first_as_of]

    @property
    def first(self) -> datetime:
        """The as-of of the first promotion: nothing that arrived by then is scored."""
        champions = [entry for entry in self._promotions.history() if entry.role == "champion"]
        return min(champion.as_of for champion in champions)


def _score_pending(
    context: StepContext, shard: Shard, choose: Choose, arrived_after: datetime | None, act: Act
) -> dict[str, int]:
    """Rows predicted by this act of this run, by model version."""
    with context.warehouse as warehouse:
        table = predictions_table(context.contract)
        # A run that was killed between two loads: what it had loaded counts as its own.
        made = {
            version: outcome.rows
            for version in _versions_of_run(context)
            if (outcome := warehouse.loaded(table, _load_id(context, act, version, shard)))
        }
        for version, staged in _stage(context, shard, choose, arrived_after, skip=frozenset(made)).items():
            made[version] = warehouse.load(table, [staged], _load_id(context, act, version, shard)).rows
            context.storage.delete(staged)
    return dict(sorted(made.items()))


def _versions_of_run(context: StepContext) -> Iterator[str]:
    table = predictions_table(context.contract)
    found = context.warehouse.query(
        f"SELECT DISTINCT model_version FROM {table.sql_name} WHERE as_of = @as_of",
        {"as_of": context.run.as_of},
    )
    yield from found.column("model_version").to_pylist()


def _load_id(context: StepContext, act: Act, version: str, shard: Shard) -> str:
    return digest("predictions", context.contract.name, context.run.id, act, version, shard.index, shard.count)[
        :16
    ]


@dataclass
class _Outputs:
    """One Parquet file a model version, opened when the version's first row comes."""

    context: StepContext
    shard: Shard
    uris: dict[str, str] = field(default_factory=dict)

    def open(self, version: str, stack: ExitStack) -> pq.ParquetWriter:
        name = f"{version}-{self.shard.index:04d}-of-{self.shard.count:04d}.parquet"
        uri = self.context.environment.staging(
            self.context.contract.name, "predictions", self.context.run.id, name
        )
        self.uris[version] = uri
        stream = stack.enter_context(self.context.storage.writer(uri))
        schema = predictions_table(self.context.contract).schema
        return stack.enter_context(pq.ParquetWriter(stream, schema, compression="zstd"))


def _stage(
    context: StepContext,
    shard: Shard,
    choose: Choose,
    arrived_after: datetime | None,
    skip: frozenset[str],
) -> dict[str, str]:
    """Scores every pending row of this shard; returns the staged file of each model version."""
    packages: dict[str, ModelPackage] = {}
    writers: dict[str, pq.ParquetWriter] = {}
    outputs = _Outputs(context, shard)
    query, parameters = _pending(context, shard, arrived_after)
    with ExitStack() as stack, context.warehouse.read(query, parameters) as reader:
        for batch in reader:
            for promotion, rows in _by_champion(pa.Table.from_batches([batch]), choose):
                version = promotion.version
                if version in skip:
                    continue
                if version not in writers:
                    packages[version] = _open(context, promotion)
                    writers[version] = outputs.open(version, stack)
                made = predict(context.contract, packages[version], rows, context.run.as_of)
                writers[version].write_table(made)
    return outputs.uris


def _open(context: StepContext, promotion: Promotion) -> ModelPackage:
    from caudal.package import open_package

    return open_package(context.storage, promotion.package)


def _by_champion(rows: pa.Table, choose: Choose) -> Iterator[tuple[Promotion, pa.Table]]:
    moments: Sequence[datetime] = pc.unique(rows.column("_first_as_of")).to_pylist()
    champions = {moment: choose(moment) for moment in moments}
    by_version = {one.version: one for one in champions.values() if one is not None}
    for version, promotion in by_version.items():
        mine = [moment for moment, one in champions.items() if one is not None and one.version == version]
        if len(mine) == len(moments):
            yield promotion, rows
        else:
            values = pa.array(mine, rows.schema.field("_first_as_of").type)
            yield promotion, rows.filter(pc.is_in(rows.column("_first_as_of"), values))


def _pending(
    context: StepContext, shard: Shard, arrived_after: datetime | None
) -> tuple[str, dict[str, datetime | int]]:
    """The query for rows without a prediction.

    Shards split by the row's number in its source file: a row keeps it, a key has one row in the warehouse, and
    numbers spread evenly.
    """
    contract = context.contract
    names = [contract.key, contract.event_time, *(feature.name for feature in contract.model_features())]
    columns = ", ".join(f"w.{quoted(name)}" for name in (*dict.fromkeys(names), "_event_date", "_first_as_of"))
    conditions = ["p.key IS NULL", "w._first_as_of <= @as_of"]
    parameters: dict[str, datetime | int] = {"as_of": context.run.as_of}
    if arrived_after is not None:
        conditions.append("w._first_as_of > @arrived_after")
        parameters["arrived_after"] = arrived_after
    if shard.count > 1:
        # MOD is outside the subset; row numbers are far below 2^53, so this is exact.
        conditions.append("w._row - @shards * FLOOR(SAFE_DIVIDE(w._row, @shards)) = @shard")
        parameters |= {"shards": shard.count, "shard": shard.index}
    source, target = warehouse_table(contract), predictions_table(contract)
    query = (
        f"SELECT {columns} FROM {source.sql_name} AS w "
        f"LEFT JOIN {target.sql_name} AS p ON p.key = w.{quoted(contract.key)} "
        f"WHERE {' AND '.join(conditions)}"
    )
    return query, parameters
