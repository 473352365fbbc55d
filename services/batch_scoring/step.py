"""The score step: new keys in, predictions out, each key once.

A key is scored by the champion that was live when it first arrived. Keys that have a prediction are left alone,
so a run also catches up with what an earlier one did not finish. Rows stream from the warehouse as Arrow, through
the package, into one Parquet file a model version; each file is loaded once, under an id made of run, version and
shard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_scoring.predictions import predict
from caudal.errors import NotFound, UsageError
from caudal.identity import digest
from caudal.promotions import Promotion, Promotions
from caudal.sql import quoted
from caudal.step import StepContext, StepResult
from caudal.tables import Table, predictions_table, shadow_table, warehouse_table

if TYPE_CHECKING:
    from caudal.package import ModelPackage

NO_CHAMPION = "no champion"
Choose = Callable[[datetime], Promotion | None]
Act = Literal["score", "backfill", "shadow"]


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


@dataclass(frozen=True)
class _Work:
    """What is scored, by which model, and where the scores go.

    Attributes:
        choose: the model for what first arrived at an as-of.
        arrived_after: only rows that first arrived later; all when None.
        version: rows count as scored when they have a score of this version; of any version when None.
    """

    act: Act
    table: Table
    choose: Choose
    arrived_after: datetime | None = None
    version: str | None = None


def score(context: StepContext, shard: Shard = WHOLE) -> StepResult:
    """Scores the keys that have arrived since there is a champion and have no prediction yet.

    While a challenger is on trial it scores what arrives too, into a table of its own.

    Returns:
        `rows`: predictions that this run made; `model_version`: the champion of this as-of; `by_version`; `reason`
        when there is no champion; `shadow`: rows that a challenger scored; `seconds` that scoring took.
    """
    started = time.perf_counter()
    promotions = Promotions(context.storage, context.environment.ledger(context.contract.name, "promotions"))
    champion = promotions.live_at(context.run.as_of)
    if champion is None:
        return {**_result(None, {}, {}, started), "reason": NO_CHAMPION}
    lives = _Lives(promotions)
    made = _do(context, shard, _Work("score", predictions_table(context.contract), lives.at, lives.first))
    shadow: dict[str, int] = {}
    challenger = promotions.challenger_at(context.run.as_of)
    if challenger is not None:
        table, version = shadow_table(context.contract), challenger.version
        trial = _Work("shadow", table, lambda first_as_of: challenger, challenger.as_of, version)
        shadow = _do(context, shard, trial)
    return _result(champion.version, made, shadow, started)


def backfill(context: StepContext, version: str | None = None) -> StepResult:
    """Scores, with the model that is live now, every key that has no prediction: those that came before any model.

    Args:
        version: the version that the caller takes to be live.

    Raises:
        NotFound: there is no champion.
        UsageError: another version is live. Predictions are what the live model said, once; rescoring them with
            another model is an evaluation and belongs elsewhere.
    """
    started = time.perf_counter()
    promotions = Promotions(context.storage, context.environment.ledger(context.contract.name, "promotions"))
    champion = promotions.head()
    if champion is None:
        raise NotFound(
            "there is no champion",
            where=context.contract.name,
            mend=f"`caudal run {context.contract.name}` trains and promotes one when enough labels are due",
        )
    if version not in (None, champion.version):
        raise UsageError(
            f"the live model is {champion.version}, and predictions are made by the live model only",
            where=context.contract.name,
            mend=f"leave the version out, or make {version} live first (`caudal models promote`)",
        )
    work = _Work("backfill", predictions_table(context.contract), lambda first_as_of: champion)
    return _result(champion.version, _do(context, WHOLE, work), {}, started)


def _result(version: str | None, made: dict[str, int], shadow: dict[str, int], started: float) -> StepResult:
    return {
        "rows": sum(made.values()),
        "model_version": version,
        "by_version": made,
        "reason": None,
        "shadow": sum(shadow.values()),
        "seconds": round(time.perf_counter() - started, 3),
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


def _do(context: StepContext, shard: Shard, work: _Work) -> dict[str, int]:
    """Rows scored by this act of this run, by model version."""
    with context.warehouse as warehouse:
        # A run that was killed between two loads: what it had loaded counts as its own.
        made = {
            version: outcome.rows
            for version in _versions_of_run(context, work)
            if (outcome := warehouse.loaded(work.table, _load_id(context, work, version, shard)))
        }
        for version, staged in _stage(context, shard, work, skip=frozenset(made)).items():
            made[version] = warehouse.load(work.table, [staged], _load_id(context, work, version, shard)).rows
            context.storage.delete(staged)
    return dict(sorted(made.items()))


def _versions_of_run(context: StepContext, work: _Work) -> Iterator[str]:
    found = context.warehouse.query(
        f"SELECT DISTINCT model_version FROM {work.table.sql_name} WHERE as_of = @as_of",
        {"as_of": context.run.as_of},
    )
    yield from found.column("model_version").to_pylist()


def _load_id(context: StepContext, work: _Work, version: str, shard: Shard) -> str:
    parts = (context.contract.name, context.run.id, work.act, version, shard.index, shard.count)
    return digest("predictions", *parts)[:16]


@dataclass
class _Outputs:
    """One Parquet file a model version, opened when the version's first row comes."""

    context: StepContext
    shard: Shard
    work: _Work
    uris: dict[str, str] = field(default_factory=dict)

    def open(self, version: str, stack: ExitStack) -> pq.ParquetWriter:
        name = f"{self.work.act}-{version}-{self.shard.index:04d}-of-{self.shard.count:04d}.parquet"
        uri = self.context.environment.staging(
            self.context.contract.name, "predictions", self.context.run.id, name
        )
        self.uris[version] = uri
        stream = stack.enter_context(self.context.storage.writer(uri))
        return stack.enter_context(pq.ParquetWriter(stream, self.work.table.schema, compression="zstd"))


def _stage(context: StepContext, shard: Shard, work: _Work, skip: frozenset[str]) -> dict[str, str]:
    """Scores every pending row of this shard; returns the staged file of each model version."""
    packages: dict[str, ModelPackage] = {}
    writers: dict[str, pq.ParquetWriter] = {}
    outputs = _Outputs(context, shard, work)
    query, parameters = _pending(context, shard, work)
    with ExitStack() as stack, context.warehouse.read(query, parameters) as reader:
        for batch in reader:
            for promotion, rows in _by_champion(pa.Table.from_batches([batch]), work.choose):
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


def _pending(context: StepContext, shard: Shard, work: _Work) -> tuple[str, dict[str, datetime | int | str]]:
    """The query for rows without a score.

    Shards split by the row's number in its source file: a row keeps it, a key has one row in the warehouse, and
    numbers spread evenly.
    """
    contract, source = context.contract, warehouse_table(context.contract)
    names = [contract.key, contract.event_time, *(feature.name for feature in contract.model_features())]
    columns = ", ".join(f"w.{quoted(name)}" for name in (*dict.fromkeys(names), "_event_date", "_first_as_of"))
    matches = [f"p.key = w.{quoted(contract.key)}"]
    conditions = ["p.key IS NULL", "w._first_as_of <= @as_of"]
    parameters: dict[str, datetime | int | str] = {"as_of": context.run.as_of}
    if work.version is not None:
        matches.append("p.model_version = @version")
        parameters["version"] = work.version
    if work.arrived_after is not None:
        conditions.append("w._first_as_of > @arrived_after")
        parameters["arrived_after"] = work.arrived_after
    if shard.count > 1:
        # MOD is outside the subset; row numbers are far below 2^53, so this is exact.
        conditions.append("w._row - @shards * FLOOR(SAFE_DIVIDE(w._row, @shards)) = @shard")
        parameters |= {"shards": shard.count, "shard": shard.index}
    query = (
        f"SELECT {columns} FROM {source.sql_name} AS w "
        f"LEFT JOIN {work.table.sql_name} AS p ON {' AND '.join(matches)} "
        f"WHERE {' AND '.join(conditions)}"
    )
    return query, parameters
