"""A small world for tests of what follows ETL: a contract's tables, filled directly, and models made to order."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caudal.backends import open_storage, open_warehouse
from caudal.contract import Contract
from caudal.environment import Environment
from caudal.event_time import event_dates, event_times
from caudal.identity import digest, format_instant, run_id
from caudal.labels import classes, encode_labels
from caudal.profile import profile
from caudal.promotions import Promotion, Promotions
from caudal.step import Run, StepContext
from caudal.tables import (
    Table,
    contract_tables,
    covered_table,
    monitoring_table,
    predictions_table,
    served_table,
    warehouse_table,
)
from caudal.warehouse import Commit

Columns = Mapping[str, Any]
REPOSITORY = Path(__file__).resolve().parents[1]


def day(text: str) -> datetime:
    """Midnight UTC of a date such as `2026-03-01`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class World:
    """A contract in an environment of its own."""

    contract: Contract
    environment: Environment
    loads: int = 0
    trainer: str = "the trainer's first code"

    def __post_init__(self) -> None:
        self.storage = open_storage(self.environment)
        self.warehouse = open_warehouse(self.environment)
        self.warehouse.ensure_tables(contract_tables(self.contract))

    def context(self, as_of: datetime, request: str | None = None, **results: dict[str, Any]) -> StepContext:
        """What a step of a run at this as-of is given."""
        name = run_id(as_of, request)
        uri = self.environment.runs(self.contract.name, name)
        run = Run(name, self.contract.name, as_of, uri, self.environment.config("test"), trainer=self.trainer)
        return StepContext(self.contract, self.environment, run, results)

    def arrive(
        self,
        columns: Columns,
        as_of: datetime,
        *,
        landed: datetime | None = None,
        first_as_of: datetime | None = None,
    ) -> pa.Table:
        """Puts rows into the warehouse as an ETL run at this as-of would; columns that are not named are null.

        Args:
            landed: when their file did; at the as-of, if not given.
            first_as_of: of the run that brought their keys first; this run, if not given.
        """
        table = warehouse_table(self.contract)
        count = len(columns[self.contract.key])
        self.loads += 1
        own: dict[str, Any] = {
            "_event_date": event_dates(
                self.contract,
                _array(
                    columns[self.contract.event_time],
                    self.contract.arrow_schema().field(self.contract.event_time).type,
                ),
            ),
            "_first_as_of": [first_as_of or as_of] * count,
            "_source_uri": ["file:///landing/a.csv"] * count,
            "_source_generation": ["1"] * count,
            "_row": list(range(count)),
            "_load_id": [f"load{self.loads}"] * count,
            "_ingested_at": [landed or as_of] * count,
        }
        given = {**columns, **own}
        arrays = [_array(given.get(name, [None] * count), kind) for name, kind in _columns(table.schema)]
        rows = pa.Table.from_arrays(arrays, schema=table.schema)
        self._load(table, rows, f"arrival-{self.loads}")
        load_id = f"load{self.loads}"
        before = self.warehouse.query(
            f"SELECT DISTINCT commit_id FROM {covered_table().sql_name} WHERE contract = @contract",
            {"contract": self.contract.name},
        )
        after = tuple(before.column("commit_id").to_pylist())
        self.warehouse.commit(Commit(load_id, self.contract.name, (), (load_id,), as_of, after))
        return rows

    def promote(
        self,
        training: pa.Table,
        as_of: datetime,
        *,
        metrics: Mapping[str, float] | None = None,
        threshold: float | None = 0.5,
        unit: str = "trainer",
        role: Any = "champion",
        scores: np.ndarray | None = None,
    ) -> Promotion:
        """Trains a small model on these rows, packs it and makes it live."""
        import xgboost as xgb

        from caudal.package import Encoder, PackageContent, write_package

        version = digest("test model", format_instant(as_of), training.num_rows, role)[:16]
        uri = self.environment.packages(self.contract.name, "xgboost", version)
        encoder = Encoder.fit(self.contract, [training])
        matrix = xgb.DMatrix(encoder.encode(training), encode_labels(self.contract, training))
        objective = {"binary": "binary:logistic", "multiclass": "multi:softprob"}
        parameters = {"objective": objective.get(self.contract.task, "reg:squarederror"), "max_depth": 3}
        if self.contract.task == "multiclass":
            parameters["num_class"] = len(classes(self.contract))
        booster = xgb.train({**parameters, "nthread": 1}, matrix, 10)
        given = booster.predict(matrix) if scores is None else scores
        times = event_times(self.contract, training.column(self.contract.event_time)).to_pylist()
        span = {
            "rows": training.num_rows,
            "from": format_instant(min(times)),
            "until": format_instant(max(times)),
        }
        metadata = {
            "version": version,
            "threshold": threshold,
            "calibration": None,
            "snapshot": "snapshot",
            "unit": unit,
            "trained": span,
            "judged": {**span, "version": "candidate", "level": 0.9},
            "metrics": {"all": {k: {"value": v} for k, v in (metrics or {}).items()}, "slices": {}},
        }
        content = PackageContent(
            self.contract,
            bytes(booster.save_raw("ubj")),
            b"scoring by batch does not read this",
            encoder,
            metadata,
            profile(
                self.contract,
                training,
                np.asarray(given, dtype=np.float64),
                encode_labels(self.contract, training),
            ),
        )
        write_package(self.storage, uri, content)
        ledger = Promotions(self.storage, self.environment.ledger(self.contract.name, "promotions"))
        return ledger.promote(
            version=version,
            model_type="xgboost",
            package=uri,
            as_of=as_of,
            by="test",
            reason="test",
            snapshot="snapshot",
            role=role,
        )

    def predicted(
        self,
        promotion: Promotion,
        keys: Any,
        times: Any,
        scores: Any,
        as_of: datetime,
        table: Table | None = None,
        decisions: Any = None,
    ) -> None:
        """Puts scores into the predictions, or into another such table, as if a run had made them."""
        table = table or predictions_table(self.contract)
        count = len(keys)
        self.loads += 1
        values = [
            keys, times, event_dates(self.contract, pa.array(times, pa.timestamp("us", tz="UTC"))), scores,
            decisions or ["yes"] * count, [promotion.version] * count, [as_of] * count,
        ]  # fmt: skip
        arrays = [_array(v, t) for v, t in zip(values, table.schema.types, strict=True)]
        self._load(table, pa.Table.from_arrays(arrays, schema=table.schema), f"predicted-{self.loads}")

    def served(
        self,
        promotion: Promotion,
        keys: Any,
        times: Any,
        scores: Any,
        as_of: datetime,
        *,
        arm: str,
        challenger: Promotion,
        share: Any,
    ) -> None:
        """Puts answers into the served predictions, as if the run of an as-of had taken up their lines.

        Args:
            share: one for all, or each row's own.
        """
        table = served_table(self.contract)
        count = len(keys)
        self.loads += 1
        values: list[Any] = [
            [f"{self.loads}-{number}" for number in range(count)], keys, times, times, scores, ["yes"] * count,
            [promotion.version] * count, [arm] * count, [challenger.version] * count,
            [share] * count if np.isscalar(share) else share, [as_of] * count,
        ]  # fmt: skip
        arrays = [_array(v, t) for v, t in zip(values, table.schema.types, strict=True)]
        self._load(table, pa.Table.from_arrays(arrays, schema=table.schema), f"served-{self.loads}")

    def measured(self, step: str, measure: str, values: Sequence[float], as_ofs: Sequence[datetime]) -> None:
        """Puts a figure into the measurements, as if a run of each as-of had measured it."""
        table, count = monitoring_table(), len(values)
        given: dict[str, Any] = {
            "contract": [self.contract.name] * count, "as_of": as_ofs, "step": [step] * count,
            "measure": [measure] * count, "value": values, "rows": [0] * count, "alarm": [False] * count,
        }  # fmt: skip
        arrays = [_array(given.get(name, [None] * count), kind) for name, kind in _columns(table.schema)]
        self.loads += 1
        self._load(table, pa.Table.from_arrays(arrays, schema=table.schema), f"measured-{self.loads}")

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """A query's result as dicts."""
        return self.warehouse.query(query, parameters).to_pylist()

    def predictions(self) -> list[dict[str, Any]]:
        """Every prediction, by key."""
        return self.rows(f"SELECT * FROM {predictions_table(self.contract).sql_name} ORDER BY key")

    def _load(self, table: Any, rows: pa.Table, load_id: str) -> None:
        uri = self.environment.staging(self.contract.name, "test", f"{load_id}.parquet")
        with self.storage.writer(uri) as stream:
            pq.write_table(rows, stream)
        self.warehouse.load(table, [uri], load_id)


def payments(
    count: int, start: str, *, first_key: int = 0, seed: int = 0, days: int = 28, **changes: Any
) -> dict[str, Any]:
    """Rows of the made-up contract, spread evenly over some days; the label follows amount and channel."""
    generator = np.random.default_rng(seed)
    amount = generator.gamma(2.0, 50.0, count).round(2)
    channel = generator.choice(["web", "app", "desk"], count, p=[0.5, 0.3, 0.2])
    chance = 1 / (1 + np.exp(-(amount - 120) / 40 - (channel == "desk")))
    step = np.timedelta64(int(days * 86400e6 / max(count, 1)), "us")
    times = np.datetime64(start, "us") + np.arange(count) * step
    columns = {
        "payment": np.arange(first_key, first_key + count),
        "paid_at": times,
        "amount": amount,
        "items": generator.integers(1, 10, count),
        "rate": generator.normal(size=count),
        "channel": channel,
        "abroad": generator.random(count) < 0.2,
        "disputed": np.where(generator.random(count) < chance, "yes", "no"),
    }
    columns.update(changes)
    return {name: _plain(value) for name, value in columns.items()}


def edit(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A file of the project reads as if it had one more line, a comment."""
    wanted, read = REPOSITORY / path, Path.open

    def opened(self: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        stream = read(self, mode, *arguments, **named)
        if self.resolve() != wanted:
            return stream
        with stream:
            text = stream.read()
        return io.BytesIO(text + b"# edited\n") if "b" in mode else io.StringIO(text + "# edited\n")

    monkeypatch.setattr(Path, "open", opened)


def _plain(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "M":
            return pa.array(values, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
        return values.tolist()
    return values


def _columns(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return list(zip(schema.names, schema.types, strict=True))


def _array(values: Any, kind: pa.DataType) -> Any:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else Decimal(str(value)) for value in values], kind)
    return pa.array(values, kind)
