"""The drift laboratory: changes at known times in simulated data, and how soon each detector finds them.

    python -m benchmarks.drift                    # prints the table
    python -m benchmarks.drift --write            # and writes it into docs/drift-lab.md

Each scenario is a whole replay by weeks (`caudal replay wallet --inject ...`): ingest, ETL, scoring, monitor, and
retraining as the contract has it. The monitor records every distance of every feature in every week, so one
replay serves all detectors. A detector raises an alarm where its distance is above its threshold and the tests of
the week, corrected by Benjamini and Hochberg, exclude chance. The contract is the wallet's, with fewer rows enough
to judge and to train, as the stream is smaller than the one that it was written for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from caudal.backends import open_warehouse
from caudal.environment import load_environment
from caudal.identity import parse_instant
from caudal.yaml_document import read_document
from monitor.divergence import discoveries

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / ".caudal" / "lab"
PAGE = REPOSITORY / "docs" / "drift-lab.md"
START = "2018-04-01"
DAY = 150
ROWS, DAYS = 50_000, 217
RATE = 0.01
SCENARIOS: Mapping[str, tuple[str, ...]] = {
    "nothing changes": (),
    "all amounts double": (f"amounts@{DAY}",),
    "half of all transactions move to a fiftieth of the terminals": (f"merchants@{DAY}",),
    "a wave of a new kind of fraud: small amounts at night": (f"fraud@{DAY}:60",),
    "a trickle of it": (f"fraud@{DAY}",),
}
# Of the distances; all are on the scale of the contract's `monitor.drift`.
DETECTORS: Mapping[str, float] = {
    "psi": 0.25,
    "jensen_shannon": 0.2,
    "kolmogorov_smirnov": 0.15,
    "chi_square": 0.15,
}


@dataclass(frozen=True)
class Finding:
    """What one detector found in one scenario.

    Attributes:
        weeks: weeks that were judged before the change (or at all, without a change).
        false_alarms: features with an alarm in those weeks, counted by week.
        delay: days from the change to the end of the first week with an alarm; None when it was not found.
        named: the features of that week.
    """

    weeks: int
    false_alarms: int
    delay: int | None
    named: tuple[str, ...]


def small_contract() -> Path:
    """The wallet's contract for a stream of some 1,600 rows a week."""
    source = REPOSITORY / "contracts" / "wallet.yaml"
    values = read_document(source.read_text(), source.name).values
    values["model"]["train_on"] = {"latest": 500_000, "minimum": 3000}
    values["gate"].update(floor=0.1, minimum_rows=500)
    values["monitor"]["quality"]["minimum_rows"] = 500
    LAB.mkdir(parents=True, exist_ok=True)
    path = LAB / "wallet.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def replay(number: int, injections: tuple[str, ...]) -> Path:
    """Replays a scenario; one that is complete is not made again."""
    root = LAB / f"scenario-{number}"
    command = [sys.executable, "-m", "pipeline.cli", "replay", str(small_contract()), "--every", "week"]
    command += ["--rows", str(ROWS), "--days", str(DAYS), "--root", str(root), "--json"]
    for injection in injections:
        command += ["--inject", injection]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    return root


def measured(root: Path) -> dict[datetime, dict[str, dict[str, float]]]:
    """Figures of the inputs step by as-of, measure and feature."""
    environment = load_environment(REPOSITORY / "environments" / "local.yaml", root=root)
    answer = open_warehouse(environment).query(
        "SELECT as_of, measure, feature, value FROM monitoring.measurements "
        "WHERE step = 'inputs' AND feature IS NOT NULL AND value IS NOT NULL"
    )
    found: dict[datetime, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in answer.to_pylist():
        found[row["as_of"]][row["measure"]][row["feature"]] = row["value"]
    return found


def alarms(figures: Mapping[str, Mapping[str, float]], detector: str) -> tuple[str, ...]:
    """The features that a detector names in one week."""
    values, chance = figures[detector], figures["p_value"]
    features = sorted(set(values) & set(chance))
    real = discoveries([chance[feature] for feature in features], RATE)
    return tuple(
        feature
        for feature, proven in zip(features, real, strict=True)
        if proven and values[feature] > DETECTORS[detector]
    )


def find(weeks: Mapping[datetime, Any], detector: str, changed: datetime | None) -> Finding:
    """Goes through the weeks as the detector would have."""
    judged = false_alarms = 0
    for as_of in sorted(weeks):
        named = alarms(weeks[as_of], detector)
        if changed is None or as_of <= changed:
            judged += 1
            false_alarms += len(named)
        elif named:
            return Finding(judged, false_alarms, (as_of - changed).days, named)
    return Finding(judged, false_alarms, None, ())


def table() -> str:
    """The table, Markdown."""
    lines = [
        "| what changes | detector | false alarms before | found after | named |",
        "|---|---|---|---|---|",
    ]
    for number, (name, injections) in enumerate(SCENARIOS.items()):
        weeks = measured(replay(number, injections))
        changed = parse_instant(START) + timedelta(days=DAY) if injections else None
        for detector, threshold in DETECTORS.items():
            found = find(weeks, detector, changed)
            after = "" if changed is None else "not found" if found.delay is None else f"{found.delay} days"
            named = ", ".join(f"`{feature}`" for feature in found.named)
            lines.append(
                f"| {name} | {detector} > {threshold:g} | {found.false_alarms} in {found.weeks} weeks "
                f"| {after} | {named} |"
            )
    return "\n".join(lines)


def page(made: str) -> str:
    """docs/drift-lab.md."""
    return f"""# Drift laboratory

How soon the monitor finds a change whose day is known, and how often it cries wolf. Made by
`python -m benchmarks.drift --write`; the simulation is seeded, so it comes out alike.

Each scenario is a replay by weeks of about {ROWS:,} simulated wallet transactions over {DAYS} days, with the whole
pipeline at work; the change comes on day {DAY}. A week ends up to seven days after a change, so a change that is
found in its first week is found after at most seven days. Alarms need a distance above the threshold and a proof
([why](decisions/0008-an-alarm-needs-distance-and-proof.md)); `chi_square` is Cramer's V.

{made}

What is not found is said too. The wave brings a customer that is taken over sixty night payments a day, the
trickle five; in a stream of this size one customer is taken over in two weeks, so the wave itself comes late. The
trickle moves no feature past a threshold: it is a change of what features mean, and the business of `quality`,
which waits for labels and has about a dozen frauds a week to judge by.
"""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/drift-lab.md")
    arguments = parser.parse_args()
    made = table()
    print(made)
    if arguments.write:
        PAGE.write_text(page(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
