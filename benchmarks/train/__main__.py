"""`python -m benchmarks.train`: memory and time of training, throughput of scoring, quality beside baselines.

Memory: the trainer's way beside a plain DMatrix, each in a process of its own, taking turns. Quality: the bank's
replay figures beside ungated retraining and beside what is published; the wallet in the handbook's protocol.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.train import bank, wallet

WAYS = ("plain", "iterator", "external")
PARITY = {"max_depth": 6, "learning_rate": 0.05, "subsample": 0.8, "colsample_bytree": 0.5}
PARITY_ROUNDS = 400
PUBLISHED = "0.931 to 0.937"


@click.command()
@click.option("--rows", type=click.IntRange(min=10_000), default=1_750_000, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated wallet.")
@click.option("--part", "parts", multiple=True, type=click.Choice(["memory", "scoring", "bank", "wallet"]))
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), default=Path(".caudal/bench/train"))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path(".caudal/bench/train.json"))
def main(rows: int, repeats: int, seed: int, parts: tuple[str, ...], root: Path, out: Path) -> None:
    """Measure, print tables and write JSON."""
    wanted = parts or ("memory", "scoring", "bank", "wallet")
    file = root.absolute() / f"wallet-{rows}-{seed}.parquet"
    if {"memory", "scoring", "wallet"} & set(wanted):
        wallet.prepare(file, rows, seed)
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    results["machine"] = {"cores": os.cpu_count(), "python": platform.python_version(), "rows": rows}
    if "memory" in wanted:
        results["memory"] = _memory(file, repeats)
        _table("training", results["memory"], ("cpu_s", "wall_s", "rss_mb", "rss_of_plain"))
    if "scoring" in wanted:
        results["scoring"] = _scoring(file)
        _table("scoring, rows a second", results["scoring"], ("one_row", "bulk"))
    if "bank" in wanted:
        results["bank"] = _bank()
        click.echo(json.dumps(results["bank"], indent=2))
    if "wallet" in wanted:
        results["wallet"] = wallet.compare(file)
        _table("wallet", results["wallet"], ("auc", "average_precision", "card_precision_100"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    click.echo(f"written to {out}")


def _memory(file: Path, repeats: int) -> dict[str, dict[str, float]]:
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.train.memory", way, str(file)],
                cwd=wallet.REPOSITORY,
                check=True,
                capture_output=True,
                text=True,
            )
            runs[way].append(json.loads(done.stdout.splitlines()[-1]))
    found = {
        way: {name: median(one[name] for one in each) for name in ("cpu_s", "wall_s", "rss_mb")}
        for way, each in runs.items()
    }
    for figures in found.values():
        figures["rss_of_plain"] = round(figures["rss_mb"] / found["plain"]["rss_mb"], 3)
    return found


def _scoring(file: Path) -> dict[str, dict[str, float]]:
    """Rows a second of each engine, one at a time and in bulk, on one thread."""
    import pyarrow.parquet as pq
    import xgboost as xgb

    from caudal.labels import encode_labels
    from caudal.package import Encoder
    from caudal.package.onnx import OnnxModel, to_onnx

    made = wallet.contract()
    encoder = Encoder.fit(made, [])
    table = pq.read_table(file).slice(0, 200_000)
    X = encoder.encode(table)
    booster = xgb.train(
        {"objective": "binary:logistic", "nthread": 1, "max_depth": 6},
        xgb.QuantileDMatrix(X, encode_labels(made, table)),
        100,
    )
    onnx = OnnxModel(to_onnx(booster))
    row = X[:1].copy()
    engines = {"xgboost inplace_predict": booster.inplace_predict, "onnxruntime": onnx.predict}
    found: dict[str, dict[str, float]] = {}
    for name, engine in engines.items():
        started = time.process_time()
        for _ in range(2_000):
            engine(row)
        one = 2_000 / (time.process_time() - started)
        started = time.process_time()
        engine(X)
        found[name] = {"one_row": round(one), "bulk": round(len(X) / (time.process_time() - started))}
    return found


def _bank() -> dict[str, Any]:
    from pipeline.project import find_contract

    contract = find_contract("bank_marketing")
    parameters = contract.model.parameters
    said = parameters.model_dump(exclude_none=True, exclude={"n_estimators"})
    latest = contract.model.train_on.latest or 1 << 60
    gated = wallet.REPOSITORY / ".caudal" / "replay" / contract.name / "summary.json"
    return {
        "ten_folds_with_what_is_never_used": {
            "auc": round(bank.cross_validated(contract, PARITY, PARITY_ROUNDS), 4),
            "published": PUBLISHED,
        },
        "ungated": {
            k: round(v, 4) for k, v in bank.ungated(contract, said, parameters.n_estimators, latest).items()
        },
        "gated (last replay)": json.loads(gated.read_text())["pooled"] if gated.exists() else "no replay yet",
    }


def _table(title: str, lines: dict[str, dict[str, float]], columns: tuple[str, ...]) -> None:
    from pipeline.cli.output import show_table

    rows = [(name, *(_number(figures[column]) for column in columns)) for name, figures in lines.items()]
    show_table((title, *columns), rows, numbers=columns)


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
