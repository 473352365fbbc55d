"""The laboratory's replays: one stream in which nothing changes, and changes that go on from one of its mornings.

An injection leaves the days before it as they are, so all scenarios share their past. It is replayed once, its
folder is kept as it is on the morning of the first change, and each scenario goes on from a copy. The folder is
always the same one: the ledger holds addresses in it. Each replay is a process of its own, since MLflow keeps the
database of the folder open.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.drift.findings import Figure, Look
from caudal.backends import open_warehouse
from caudal.contract import Contract, load_contract
from caudal.environment import Environment, load_environment
from caudal.identity import digest, format_instant, parse_instant
from data.wallet.files import write_files
from data.wallet.simulator import START, Injection, Simulation
from pipeline.cli.replay import replay_environment
from pipeline.local_executor import Silence
from pipeline.replay.replay import EXECUTED, Replay, Replayed, code_digest
from pipeline.replay.simulated import SIMULATOR

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / ".caudal" / "lab"
WALLET = REPOSITORY / "contracts" / "wallet.yaml"
LOCAL = REPOSITORY / "environments" / "local.yaml"
DISTANCES = ("psi", "jensen_shannon", "kolmogorov_smirnov", "chi_square")


@dataclass(frozen=True)
class Size:
    """How long a stream is, and how much comes in it."""

    rows: int
    days: int


@dataclass(frozen=True)
class Scenario:
    """A change, and the day on which it begins; without one, the stream as it is.

    Attributes:
        injection: the kind and strength of `caudal simulate --inject`, such as `fraud` or `fraud:60`.
        day: counted from 0, the first day of the stream.
    """

    name: str
    injection: str = ""
    day: int = 0

    @property
    def id(self) -> str:
        """The same for the same change on the same day, whatever it is called."""
        return digest(self.injection, self.day)[:12]

    @property
    def injections(self) -> tuple[Injection, ...]:
        if not self.injection:
            return ()
        kind, _, strength = self.injection.partition(":")
        return (Injection.parse(f"{kind}@{self.day}" + (f":{strength}" if strength else "")),)


class Laboratory:
    """Replays scenarios day by day, with the wallet's contract as it ships.

    Args:
        watched_for: how many days a scenario is replayed after its change.
        parts_on: the morning from which scenarios go on; no change begins before.
    """

    def __init__(self, size: Size, parts_on: int, watched_for: int) -> None:
        self.size = size
        self.parts_on = parts_on
        self.watched_for = watched_for
        self.contract = load_contract(WALLET)
        code = code_digest([*EXECUTED, SIMULATOR, "benchmarks/drift"])
        made_of = digest(self.contract.text, LOCAL.read_text(), code, size.rows, size.days, parts_on)
        self.folder = LAB / made_of[:12]
        self.world = self.folder / "world"
        self.morning = self.folder / "morning"

    def looks(self, scenario: Scenario) -> list[Look]:
        """Every run of a scenario; what has been replayed is not replayed again."""
        kept = self.folder / f"{scenario.id}.json"
        if not kept.exists():
            looks = self._replayed(scenario)
            aside = kept.with_suffix(".part")
            aside.write_text(json.dumps([_to_json(look) for look in looks]))
            aside.replace(kept)
        return [_from_json(value) for value in json.loads(kept.read_text())]

    def _replayed(self, scenario: Scenario) -> list[Look]:
        until = scenario.day + self.watched_for if scenario.injection else self.size.days
        files = self._files(scenario)[:until]
        self._go_back()
        return self._replay(files)

    def _go_back(self) -> None:
        """The world is again as on the morning on which scenarios part; the first time, it is brought there."""
        if not self.morning.exists():
            self._replay(self._files(Scenario("nothing changes"))[: self.parts_on])
            aside = self.folder / "morning.part"
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(self.world, aside)
            aside.replace(self.morning)
            return
        shutil.rmtree(self.world, ignore_errors=True)
        shutil.copytree(self.morning, self.world)

    def _files(self, scenario: Scenario) -> list[Path]:
        """A file a day."""
        folder = self.folder / "files" / scenario.id
        if not folder.exists():
            aside = folder.with_suffix(".part")
            shutil.rmtree(aside, ignore_errors=True)
            simulation = Simulation(self.size.rows, days=self.size.days, injections=scenario.injections)
            for _ in write_files(simulation, aside):
                pass
            aside.replace(folder)
        return sorted(folder.glob("*.parquet"))

    def _replay(self, files: Sequence[Path]) -> list[Look]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(_replay, self.world, list(files)).result()


def _replay(world: Path, files: list[Path]) -> list[Look]:
    """Replays the days that are not over yet; what has been looked at, from the first one on."""
    contract = load_contract(WALLET)
    environment = replay_environment(load_environment(LOCAL, root=world))
    days = Replay(contract, environment, files, "day").run(Silence(), lambda day: None)
    return _looks(contract, environment, days)


def _looks(contract: Contract, environment: Environment, days: Sequence[Replayed]) -> list[Look]:
    figures = _figures(environment, contract)
    return [
        Look(
            day.delivery.as_of,
            figures.get(day.delivery.as_of, []),
            [
                (alarm["kind"], alarm["feature"])
                for step in ("inputs", "outcomes")
                for alarm in day.record.results.get(step, {}).get("alarms", ())
            ],
        )
        for day in days
    ]


def _figures(environment: Environment, contract: Contract) -> dict[datetime, list[Figure]]:
    """By as-of, what was measured of each feature, among all rows and within the positive class."""
    positive = contract.label.positive or ""
    # Of a distance that decides, the threshold is recorded with it wherever the rows were enough to judge.
    deciding = {"": contract.monitor.drift.measure}
    if contract.monitor.class_drift is not None:
        deciding[positive] = contract.monitor.class_drift.measure
    rows = open_warehouse(environment).query(
        "SELECT as_of, measure, feature, value, threshold FROM monitoring.measurements "
        "WHERE feature IS NOT NULL AND value IS NOT NULL ORDER BY as_of, feature, measure"
    )
    found: dict[tuple[datetime, str, str], dict[str, Any]] = defaultdict(dict)
    for row in rows.to_pylist():
        prefix = f"among_{positive}_"
        among = positive if row["measure"].startswith(prefix) else ""
        measure = row["measure"].removeprefix(prefix) if among else row["measure"]
        one = found[row["as_of"], row["feature"], among]
        one[measure] = row["value"]
        if measure == deciding.get(among):
            one["judged"] = row["threshold"] is not None
    looks: dict[datetime, list[Figure]] = defaultdict(list)
    for (as_of, feature, among), one in found.items():
        if "p_value" in one:
            distances = {name: one[name] for name in DISTANCES}
            looks[as_of].append(Figure(feature, among, distances, one["p_value"], one["judged"]))
    return looks


def _to_json(look: Look) -> dict[str, Any]:
    return {
        "as_of": format_instant(look.as_of),
        "figures": [figure.to_json() for figure in look.figures],
        "alarms": list(look.alarms),
    }


def _from_json(value: dict[str, Any]) -> Look:
    return Look(
        parse_instant(value["as_of"]),
        [Figure(**figure) for figure in value["figures"]],
        [(kind, feature) for kind, feature in value["alarms"]],
    )


def changed_at(scenario: Scenario) -> datetime:
    """The midnight (UTC) at which a scenario's change begins."""
    return datetime.combine(START + timedelta(days=scenario.day), datetime.min.time(), UTC)
