"""Simulated wallet transactions in the protocol of the Fraud Detection Handbook (chapters 3 and 5).

Train a week, leave a week for labels to arrive, test a week; cards that are known to be defrauded are taken out of
the test week. The features are those of the contract, computed by the ETL's own code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb
from numpy.typing import NDArray

from caudal import metrics
from caudal.contract import Contract, load_contract
from caudal.labels import encode_labels
from caudal.package import Encoder

REPOSITORY = Path(__file__).resolve().parents[2]
FIRST_TRAINING_DAY = 115  # 2018-07-25, counted from 2018-04-01
TRAIN_DAYS = DELAY_DAYS = TEST_DAYS = 7
TOP = 100


def contract() -> Contract:
    """The wallet's contract."""
    return load_contract(REPOSITORY / "contracts" / "wallet.yaml")


def prepare(path: Path, count: int, seed: int) -> Path:
    """Simulates, derives the features, and writes Parquet in the order (event time, key); once."""
    if path.exists():
        return path
    from data.wallet.simulator import Simulation
    from etl_beam.calendar_features import calendar_features
    from etl_beam.rows import STATE, State
    from etl_beam.windows import add_features, windows_by_entity

    made = contract()
    table = pa.concat_tables(Simulation(count, seed).tables()).combine_chunks()
    for name, values in calendar_features(made, table.column(made.event_time)).items():
        table = table.append_column(name, values)
    new = pa.array(np.full(table.num_rows, int(State.NEW), np.int8))
    for group in windows_by_entity(made):
        in_flight = table.append_column(STATE, new)
        for feature in group.features:
            in_flight = in_flight.append_column(feature, pa.nulls(table.num_rows, pa.float64()))
        table = add_features(made, group, in_flight).drop_columns([STATE])
    table = table.sort_by([(made.event_time, "ascending"), (made.key, "ascending")])
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    pq.write_table(table, aside, row_group_size=65_536, compression="zstd")
    aside.replace(path)
    return path


def compare(path: Path) -> dict[str, dict[str, float]]:
    """The handbook's figures for XGBoost's exact defaults, and for the contract's parameters, on the same rows."""
    made = contract()
    table = pq.read_table(path)
    start = np.datetime64("2018-04-01", "us") + np.timedelta64(FIRST_TRAINING_DAY, "D")
    times = table.column(made.event_time).cast(pa.timestamp("us")).to_numpy()
    day = (times - start) // np.timedelta64(1, "D")
    labels = encode_labels(made, table)
    # The card is the entity of the contract's first windows.
    customers = table.column(made.features.windows[0].entity).to_numpy()
    learned = (day >= 0) & (day < TRAIN_DAYS)
    test = _unknown_cards(day, labels, customers)
    used = pa.array(learned | test)
    chosen = learned[learned | test]
    own = made.model.parameters.model_dump(exclude_none=True, exclude={"n_estimators", "scale_pos_weight"})
    exact = {"tree_method": "exact", "base_score": 0.5}
    handbook = made.model_copy(update={"features": made.features.model_copy(update={"ratios": {}})})
    found = {}
    for name, features, parameters, rounds in (
        ("exact, otherwise defaults, handbook's features", handbook, exact, 100),
        ("exact, otherwise defaults, contract's features", made, exact, 100),
        ("contract", made, own, made.model.parameters.n_estimators),
    ):
        X = Encoder.fit(features, []).encode(table.filter(used))
        if parameters is exact:
            data = xgb.DMatrix(X[chosen], labels[learned])
        else:
            data = xgb.QuantileDMatrix(X[chosen], labels[learned], max_bin=made.model.parameters.max_bin)
        booster = xgb.train({"objective": "binary:logistic", "nthread": 1, **parameters}, data, rounds)
        scores = booster.inplace_predict(X[~chosen]).astype(np.float64)
        found[name] = {
            "train_rows": int(learned.sum()),
            "test_rows": int(test.sum()),
            "auc": metrics.auc(labels[test], scores),
            "average_precision": metrics.average_precision(labels[test], scores),
            "card_precision_100": card_precision(day[test], customers[test], labels[test], scores),
        }
    return found


def _unknown_cards(day: NDArray[Any], labels: NDArray[Any], customers: NDArray[Any]) -> NDArray[np.bool_]:
    """The test week without the cards whose fraud is known by each day, as the handbook leaves them out."""
    known = set(customers[(day >= 0) & (day < TRAIN_DAYS) & (labels == 1)].tolist())
    kept = np.zeros(len(day), bool)
    for number in range(TEST_DAYS):
        heard = (day == TRAIN_DAYS + number - 1) & (labels == 1)
        known.update(customers[heard].tolist())
        today = day == TRAIN_DAYS + DELAY_DAYS + number
        kept |= today & ~np.isin(customers, np.fromiter(known, np.int64, len(known)))
    return kept


def card_precision(
    day: NDArray[Any], customers: NDArray[Any], labels: NDArray[Any], scores: NDArray[Any]
) -> float:
    """The share of defrauded cards among each day's 100 most suspect cards, averaged over days."""
    found = []
    for one in np.unique(day):
        today = day == one
        cards, code = np.unique(customers[today], return_inverse=True)
        score = np.full(len(cards), -np.inf)
        np.maximum.at(score, code, scores[today])
        fraud = np.zeros(len(cards), np.int8)
        np.maximum.at(fraud, code, labels[today])
        top = np.argsort(-score, kind="stable")[:TOP]
        found.append(fraud[top].sum() / TOP)
    return float(np.mean(found))


if __name__ == "__main__":
    import json

    print(json.dumps(compare(Path(sys.argv[1]))))
