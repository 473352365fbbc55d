"""The drift laboratory: changes on known days in simulated data, and how soon each detector finds them.

    python -m benchmarks.drift                    # prints the tables
    python -m benchmarks.drift --write            # and writes docs/drift-lab.md

The contract is the wallet's as it ships, and the pipeline runs once a day, as the environments have it: ingest,
ETL, scoring, monitor, and retraining when the monitor asks for it. The stream is a quarter of the documented
simulator's: customers are taken over on most days, so a new kind of fraud is there from its first days. The
monitor records every distance of every feature in every run, so one replay serves all detectors.

It takes about half an hour. What is complete is kept below .caudal/lab, so one that was stopped goes on. `--rows`,
`--days` and `--day` make a smaller one, to try a change of the monitor; the page is written for the size below.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from benchmarks.drift.findings import Detector, Finding, Look, Raised, finding, silence
from benchmarks.drift.scenarios import Laboratory, Scenario, Size, changed_at

PAGE = Path(__file__).resolve().parents[2] / "docs" / "drift-lab.md"
SIZE = Size(rows=579_000, days=250)
WEDNESDAY = 150
WITHIN = timedelta(days=14)
NOTHING = Scenario("nothing changes")
SHIPPED: tuple[Raised, ...] = (
    Raised("drift"),
    Raised("class_drift"),
    Raised("prediction_drift"),
    Raised("quality"),
)
THRESHOLDS = {"psi": 0.25, "jensen_shannon": 0.2, "kolmogorov_smirnov": 0.15, "chi_square": 0.15}
THRESHOLDS_OF_CLASS = {"psi": 0.4, "jensen_shannon": 0.28, "kolmogorov_smirnov": 0.25, "chi_square": 0.2}


def detectors(false_alarms: float) -> Iterator[Detector]:
    """Every distance, among all rows and then within a class, at the contract's rate of false alarms."""
    for of_class, thresholds in ((False, THRESHOLDS), (True, THRESHOLDS_OF_CLASS)):
        for distance, threshold in thresholds.items():
            yield Detector(distance, threshold, false_alarms, of_class)


def scenarios(day: int) -> tuple[Scenario, ...]:
    """Every change at the strength that `--inject` has by itself, and a wave; the hardest on three weekdays."""
    return (
        Scenario("all amounts double", "amounts", day),
        Scenario("half of all transactions move to a fiftieth of the terminals", "merchants", day),
        Scenario("a wave of a new kind of fraud", "fraud:60", day),
        Scenario("a trickle of it", "fraud", day),
        Scenario("a trickle of it, from a Friday", "fraud", day + 2),
        Scenario("a trickle of it, from a Sunday", "fraud", day + 4),
    )


def shipped(laboratory: Laboratory, changes: Sequence[Scenario]) -> str:
    """What the contract itself raises, Markdown."""
    lines = ["| what changes | kind of alarm | found after | named |", "|---|---|---|---|"]
    for scenario in changes:
        looks = laboratory.looks(scenario)
        for raised in SHIPPED:
            found = finding(looks, raised, changed_at(scenario), WITHIN)
            if found is not None:
                named = ", ".join(f"`{feature}`" for feature in found.features)
                lines.append(f"| {scenario.name} | `{raised.kind}` | {_days(found)} | {named} |")
        if all(finding(looks, raised, changed_at(scenario), WITHIN) is None for raised in SHIPPED):
            lines.append(f"| {scenario.name} | | not within {WITHIN.days} days | |")
    return "\n".join(lines)


def quiet(looks: Sequence[Look]) -> str:
    """What the contract raises where nothing changes, Markdown."""
    lines = ["| kind of alarm | runs with an alarm, of those that judged | named |", "|---|---|---|"]
    for raised in SHIPPED:
        heard = silence(looks, raised)
        named = ", ".join(f"`{feature}`" for feature in heard.features)
        lines.append(f"| `{raised.kind}` | {heard.alarms} of {heard.looks} | {named} |")
    return "\n".join(lines)


def distances(laboratory: Laboratory, changes: Sequence[Scenario]) -> str:
    """Every distance beside the others: false alarms, and days until it finds each change; Markdown."""
    titles = [f"{scenario.injection}, day {scenario.day}" for scenario in changes]
    lines = [
        f"| rows | distance | false alarms | {' | '.join(titles)} |",
        "|---|---|---|" + "---|" * len(titles),
    ]
    still = laboratory.looks(NOTHING)
    for detector in detectors(laboratory.contract.monitor.false_alarms):
        heard = silence(still, detector)
        found = [
            finding(laboratory.looks(scenario), detector, changed_at(scenario), WITHIN) for scenario in changes
        ]
        delays = " | ".join("" if one is None else str(one.delay) for one in found)
        lines.append(
            f"| {'frauds' if detector.of_class else 'all'} | {detector.distance} > {detector.threshold:g} "
            f"| {heard.alarms} of {heard.looks} | {delays} |"
        )
    return "\n".join(lines)


def _days(found: Finding) -> str:
    return f"{found.delay} day{'' if found.delay == 1 else 's'}"


def page(size: Size, day: int, first: int, silent: str, table: str, others: str) -> str:
    """docs/drift-lab.md."""
    return f"""# Drift laboratory

How soon the monitor finds a change whose day is known, and how often it cries wolf. Made by
`python -m benchmarks.drift --write`, which takes about half an hour on two cores; the simulation is seeded, so it
comes out alike.

About {size.rows:,} simulated wallet transactions over {size.days} days, with the whole pipeline run once a day, as
the environments have it, and [the wallet's contract](../contracts/wallet.yaml) as it ships. Changes are those of
`--inject` at the strength that they have by themselves, from day {day} (a Wednesday), and stay;
the days before are the same stream's. "After 1 day" is the first run that could see a changed row. A label is due
after seven days, so what only labels tell can't be found sooner. With a run a week instead of one a day, a change
waits for the next run, up to six days longer.

## Where nothing changes

The first {first} days wait for a champion; `class_drift` waits for one that has learned from
`minimum_training_rows` frauds.

{silent}

## Where something changes

The first alarm of each kind within {WITHIN.days} days. The new kind of fraud is small amounts at night: for each
customer that is taken over 5 a day in the trickle, as `--inject fraud` does by itself, and 60 in the wave.

{table}

A new kind of fraud is a small part of all rows, so it moves their distributions late, or not past a threshold at
all; among the frauds whose labels are due it is soon a large part. `quality` tells that the model misses
something, `class_drift` what it is ([why so](decisions/0013-drift-within-a-class.md)).

## Other distances

The same figures read by other distances; the days until the change is found, empty where it is not within
{WITHIN.days} days. An alarm needs a distance above the threshold and a proof
([why](decisions/0008-an-alarm-needs-distance-and-proof.md)); `chi_square` is Cramer's V.

{others}

## See it yourself

A replay of thirteen weeks in which a new kind of fraud begins on day 75, with its report:

```sh
caudal replay wallet --every day --rows 210000 --days 90 --inject fraud@75
```
"""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/drift-lab.md")
    parser.add_argument("--rows", type=int, default=SIZE.rows, help="about how many transactions")
    parser.add_argument("--days", type=int, default=SIZE.days, help="how many days")
    parser.add_argument("--day", type=int, default=WEDNESDAY, help="the day on which changes begin")
    arguments = parser.parse_args()
    size, day = Size(arguments.rows, arguments.days), arguments.day
    if arguments.write and (size, day) != (SIZE, WEDNESDAY):
        parser.error("the page is written for the laboratory's own size: leave out --rows, --days and --day")
    changes = scenarios(day)
    laboratory = Laboratory(size, parts_on=day, watched_for=WITHIN.days)
    for scenario in (*changes, NOTHING):
        started = time.perf_counter()
        runs = len(laboratory.looks(scenario))
        print(f"{scenario.name}: {runs} runs, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    silent = quiet(laboratory.looks(NOTHING))
    table = shipped(laboratory, changes)
    others = distances(laboratory, changes)
    print("\n\n".join([silent, table, others]))
    if arguments.write:
        first = sum(not look.has_champion for look in laboratory.looks(NOTHING))
        PAGE.write_text(page(size, day, first, silent, table, others))
    return 0


if __name__ == "__main__":
    sys.exit(main())
