"""XGBoost: from rows to a booster.

Rows go into XGBoost's quantile iterator batch by batch, so the whole matrix never exists beside XGBoost's own
compressed one; above the contract's row count that one stays on disk. There is one way in for every size, since
with subsampling another kind of input gives another model.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xgboost as xgb

from caudal.labels import classes, encode_labels

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.package import Encoder
    from trainer.snapshot import Rows

OBJECTIVES = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}
EARLY_METRICS = {"binary": "logloss", "multiclass": "mlogloss", "regression": "rmse"}
_ONE_THREAD_BELOW = 100_000
_KEPT_BYTES = 64 << 20


@dataclass(frozen=True)
class Fit:
    """A booster and how it came about.

    Attributes:
        rounds: the number of trees it learned, before any were cut off.
        best: with early stopping, the number of trees at which the watched rows were scored best.
    """

    booster: xgb.Booster
    rounds: int
    best: int


def fit(contract: Contract, encoder: Encoder, rows: Rows, rounds: int, watched: Rows | None = None) -> Fit:
    """Trains a booster.

    Args:
        rounds: the number of trees; the most with early stopping.
        watched: rows on which early stopping decides; the contract says how patient it is.
    """
    parameters = booster_parameters(contract, encoder, rows)
    if watched is None:
        booster = xgb.train(parameters, matrix(contract, encoder, rows), rounds, verbose_eval=False)
        return Fit(booster, rounds, rounds)
    patience = contract.model.early_stopping
    if patience is None:
        raise ValueError("rows are watched, but the contract asks for no early stopping")
    learned = matrix(contract, encoder, rows)
    parameters["eval_metric"] = EARLY_METRICS[contract.task]
    booster = xgb.train(
        parameters,
        learned,
        rounds,
        evals=[(matrix(contract, encoder, watched, learned), "watched")],
        early_stopping_rounds=patience.rounds,
        verbose_eval=False,
    )
    best = booster.best_iteration + 1
    return Fit(booster[:best], booster.num_boosted_rounds(), best)


def booster_parameters(contract: Contract, encoder: Encoder, rows: Rows) -> dict[str, Any]:
    """XGBoost's parameters for these rows, all of them said."""
    said = contract.model.parameters.model_dump(exclude={"n_estimators"}, exclude_none=True)
    if contract.task == "binary":
        said["scale_pos_weight"] = positive_weight(contract, rows)
    else:
        del said["scale_pos_weight"]
    if contract.task == "multiclass":
        said["num_class"] = len(classes(contract))
    if contract.model.monotone:
        ways = {"increasing": 1, "decreasing": -1}
        monotone = {name: ways[way] for name, way in contract.model.monotone.items()}
        said["monotone_constraints"] = tuple(monotone.get(name, 0) for name in encoder.column_names())
    return {
        **said,
        "objective": OBJECTIVES[contract.task],
        "device": "cpu",
        "nthread": threads(len(rows)),
        "verbosity": 1,
    }


def positive_weight(contract: Contract, rows: Rows) -> float:
    """How much a positive row weighs; `balanced` lets both classes weigh alike."""
    asked = contract.model.parameters.scale_pos_weight
    if not isinstance(asked, str):
        return asked
    positives = int(rows.labels.sum())
    return float((len(rows) - positives) / positives) if positives else 1.0


def threads(rows: int) -> int:
    """One thread for few rows, where threads wait more than they work; the model's bytes don't depend on it."""
    asked = os.environ.get("CAUDAL_TRAINER_THREADS")
    if asked:
        return int(asked)
    return 1 if rows < _ONE_THREAD_BELOW else os.cpu_count() or 1


def matrix(contract: Contract, encoder: Encoder, rows: Rows, reference: xgb.DMatrix | None = None) -> xgb.DMatrix:
    """The rows as XGBoost holds them.

    Args:
        reference: the matrix whose quantiles are used, for rows that are only watched.
    """
    parameters = contract.model.parameters
    common = {"enable_categorical": True, "nthread": threads(len(rows))}
    if parameters.tree_method != "hist":
        return _plain(encoder, rows, common)
    if len(rows) > contract.model.external_memory_above:
        return _OnDisk(contract, encoder, rows, max_bin=parameters.max_bin, ref=reference, **common)
    source = _Batches(contract, encoder, rows)
    return xgb.QuantileDMatrix(source, max_bin=parameters.max_bin, ref=reference, **common)


def _plain(encoder: Encoder, rows: Rows, common: dict[str, Any]) -> xgb.DMatrix:
    """The uncompressed matrix, which `exact` and `approx` ask for."""
    table = rows.table()
    data = encoder.encode_sparse(table) if encoder.is_sparse else encoder.encode(table)
    return xgb.DMatrix(
        data,
        rows.labels,
        feature_names=encoder.column_names(),
        feature_types=encoder.column_types(),
        **common,
    )


class _Batches(xgb.DataIter):
    """Encoded batches for XGBoost, which passes over them several times; few rows are encoded only once."""

    def __init__(self, contract: Contract, encoder: Encoder, rows: Rows, cache: str | None = None) -> None:
        self._contract = contract
        self._encoder = encoder
        self._rows = rows
        self._batch_rows = 65_536 if encoder.is_sparse else min(65_536, encoder.rows_at_once())
        self._names = encoder.column_names()
        self._types = encoder.column_types()
        self._keep = len(rows) * encoder.width * 4 <= _KEPT_BYTES
        self._kept: list[tuple[Any, Any]] = []
        self._complete = False
        self._source: Iterator[tuple[Any, Any]] = iter(())
        super().__init__(cache_prefix=cache, release_data=not self._keep)
        self.reset()

    def next(self, input_data: Callable[..., Any]) -> bool:
        found = next(self._source, None)
        if found is None:
            self._complete = self._keep
            return False
        data, labels = found
        input_data(data=data, label=labels, feature_names=self._names, feature_types=self._types)
        return True

    def reset(self) -> None:
        if self._complete:
            self._source = iter(self._kept)
        else:
            self._kept = []
            self._source = self._encoded()

    def _encoded(self) -> Iterator[tuple[Any, Any]]:
        encode = self._encoder.encode_sparse if self._encoder.is_sparse else self._encoder.encode
        wanted = [*self._encoder.names, self._contract.label.column]
        for batch in self._rows.batches(self._batch_rows, wanted):
            pair = (encode(batch), encode_labels(self._contract, batch))
            if self._keep:
                self._kept.append(pair)
            yield pair


class _OnDisk(xgb.ExtMemQuantileDMatrix):
    """XGBoost's external memory: the compressed matrix lies in a temporary folder, which goes with it."""

    def __init__(self, contract: Contract, encoder: Encoder, rows: Rows, **arguments: Any) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="caudal-train-")
        pages = _Batches(contract, encoder, rows, cache=str(Path(self._folder.name) / "pages"))
        super().__init__(pages, **arguments)
