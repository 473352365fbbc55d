"""One training in a process of its own, so that its peak memory is its own.

python -m benchmarks.train.memory plain|iterator|external PARQUET
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 100
PARAMETERS = {"max_depth": 6, "learning_rate": 0.1, "max_bin": 256, "tree_method": "hist"}


def plain(path: Path) -> Any:
    """All rows in memory, then a plain DMatrix: what a notebook does."""
    import pyarrow.parquet as pq
    import xgboost as xgb

    from benchmarks.train.wallet import contract
    from caudal.labels import encode_labels
    from caudal.package import Encoder

    made = contract()
    encoder = Encoder.fit(made, [])
    table = pq.read_table(path, columns=[*encoder.names, made.label.column])
    data = xgb.DMatrix(encoder.encode(table), encode_labels(made, table))
    return xgb.train({"objective": "binary:logistic", "nthread": 2, **PARAMETERS}, data, ROUNDS)


def trainer(path: Path, external: bool) -> Any:
    """The trainer's own way, from a snapshot's file."""
    from benchmarks.train.wallet import contract
    from caudal.package import Encoder
    from caudal.storage.files import FileStorage, file_uri
    from trainer.boosting import fit
    from trainer.snapshot import Rows, Snapshot

    made = contract()
    parameters = made.model.parameters.model_copy(update=PARAMETERS)
    above = 1 if external else made.model.external_memory_above
    model = made.model.model_copy(update={"parameters": parameters, "external_memory_above": above})
    made = made.model_copy(update={"model": model})
    snapshot = Snapshot.of_files(made, FileStorage(Path("/")), [file_uri(path)], "benchmark")
    rows = Rows(snapshot, made, 0, snapshot.rows)
    return fit(made, Encoder.fit(made, []), rows, ROUNDS).booster


def peak_mb() -> float:
    """This program's peak resident memory; on Linux `ru_maxrss` would count its parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 1)


def main() -> None:
    """Trains, and prints what it took."""
    way, path = sys.argv[1], Path(sys.argv[2])
    started = time.perf_counter()
    booster = plain(path) if way == "plain" else trainer(path, way == "external")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "wall_s": round(time.perf_counter() - started, 2),
                "cpu_s": round(used.ru_utime + used.ru_stime, 2),
                "rss_mb": peak_mb(),
                "trees": booster.num_boosted_rounds(),
            }
        )
    )


if __name__ == "__main__":
    main()
