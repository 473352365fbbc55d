"""The drift laboratory's bookkeeping: what counts as a false alarm, and what as found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.drift import __main__ as lab
from benchmarks.drift import scenarios
from benchmarks.drift.findings import Detector, Figure, Finding, Look, Raised, Silence, finding, silence
from benchmarks.drift.scenarios import Laboratory, Scenario, Size, changed_at
from tests.world import day, edit

CHANGE = day("2026-03-01")
PSI = Detector("psi", 0.25, 0.01)
OF_CLASS = Detector("psi", 0.25, 0.01, of_class=True)
FORTNIGHT = timedelta(days=14)


def figure(feature: str, psi: float, p_value: float = 1e-9, among: str = "", judged: bool = True) -> Figure:
    return Figure(feature, among, {"psi": psi}, p_value, judged)


def look(date: str, *figures: Figure, alarms: tuple[tuple[str, str | None], ...] = ()) -> Look:
    return Look(day(date), figures, alarms)


def test_an_alarm_needs_distance_and_proof_and_rows_enough() -> None:
    seen = look(
        "2026-03-02",
        figure("a", 0.3),
        figure("b", 0.3, p_value=0.2),
        figure("c", 0.2),
        figure("d", 0.9, judged=False),
        figure("e", 0.9, among="true"),
    )
    assert PSI.names(seen) == ("a",)
    assert OF_CLASS.names(seen) == ("e",)


def test_the_first_alarm_after_the_change_is_the_finding() -> None:
    looks = [
        look("2026-03-01", figure("a", 0.9)),
        look("2026-03-04", figure("a", 0.1)),
        look("2026-03-09", figure("a", 0.3), figure("b", 0.4)),
        look("2026-03-10", figure("a", 0.3)),
    ]
    assert finding(looks, PSI, CHANGE, FORTNIGHT) == Finding(8, ("a", "b"))
    assert finding(list(reversed(looks)), PSI, CHANGE, FORTNIGHT) == Finding(8, ("a", "b"))


def test_what_is_found_too_late_is_not_found() -> None:
    assert finding([look("2026-03-16", figure("a", 0.9))], PSI, CHANGE, FORTNIGHT) is None
    assert finding([look("2026-03-15", figure("a", 0.9))], PSI, CHANGE, FORTNIGHT) == Finding(14, ("a",))


def test_where_nothing_changes_every_alarm_is_false_and_runs_that_could_not_judge_do_not_count() -> None:
    looks = [
        look("2026-03-01"),
        look("2026-03-02", figure("a", 0.3)),
        look("2026-03-03", figure("a", 0.1), figure("b", 0.4)),
        look("2026-03-04", figure("a", 0.1), figure("b", 0.1)),
    ]
    assert silence(looks, PSI) == Silence(looks=3, alarms=2, features=("a", "b"))
    assert silence(looks, OF_CLASS) == silence(looks, Raised("class_drift")) == Silence(0, 0, ())
    assert silence(looks, Raised("drift")) == Silence(3, 0, ())


def test_what_the_contract_raises_is_told_by_kind() -> None:
    seen = look("2026-03-05", figure("a", 0.0), alarms=(("class_drift", "a"), ("quality", None)))
    assert Raised("class_drift").names(seen) == ("a",)
    assert Raised("quality").names(seen) == ("the model",)
    assert Raised("drift").names(seen) == ()


def test_a_change_begins_at_midnight_of_its_day() -> None:
    assert changed_at(Scenario("a change", "fraud", 150)) == day("2018-08-29")
    assert changed_at(Scenario("a change", "fraud", 150)).weekday() == 2


def test_every_change_is_injected_at_the_strength_that_it_has_by_itself() -> None:
    found = {(one.kind, one.strength) for scenario in lab.scenarios(150) for one in scenario.injections}
    assert found == {("amounts", 2.0), ("merchants", 0.5), ("fraud", 5.0), ("fraud", 60.0)}


@dataclass
class Replayed:
    """Stands for the replay: lands what is not there yet, and remembers what it was asked for."""

    asked: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def __call__(self, laboratory: Laboratory, files: Sequence[Path]) -> list[Look]:
        laboratory.world.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in laboratory.world.iterdir())
        self.asked.append((there, [path.name for path in files]))
        for path in files:
            if path.name not in there:
                shutil.copy(path, laboratory.world)
        return [look(path.stem) for path in files]


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> Replayed:
    stands_in = Replayed()
    monkeypatch.setattr(Laboratory, "_replay", lambda laboratory, files: stands_in(laboratory, files))
    return stands_in


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    monkeypatch.setattr(scenarios, "LAB", tmp_path)
    return Laboratory(Size(rows=1200, days=6), parts_on=3, watched_for=2)


def days(*numbers: int) -> list[str]:
    return [f"2018-04-0{number}.parquet" for number in numbers]


def test_scenarios_go_on_from_one_morning(tiny: Laboratory, replayed: Replayed) -> None:
    change = Scenario("a change", "amounts", 3)
    tiny.looks(change)
    after = {path.name: path.read_bytes() for path in tiny.world.iterdir()}
    tiny.looks(Scenario("nothing changes"))
    still = {path.name: path.read_bytes() for path in tiny.world.iterdir()}
    assert replayed.asked == [
        ([], days(1, 2, 3)),
        (days(1, 2, 3), days(1, 2, 3, 4, 5)),
        (days(1, 2, 3), days(1, 2, 3, 4, 5, 6)),
    ]
    assert [name for name in sorted(after) if after[name] == still[name]] == days(1, 2, 3)


def test_what_has_been_looked_at_is_not_replayed_again(tiny: Laboratory, replayed: Replayed) -> None:
    change = Scenario("a change", "amounts", 3)
    looks = tiny.looks(change)
    asked = len(replayed.asked)
    assert tiny.looks(change) == looks
    assert [one.as_of for one in looks] == [day(f"2018-04-0{number}") for number in range(1, 6)]
    assert len(replayed.asked) == asked


@pytest.mark.parametrize(
    "path",
    [
        "contracts/wallet.yaml",
        "environments/local.yaml",
        "data/wallet/simulator.py",
        "benchmarks/drift/scenarios.py",
        "services/monitor/drift.py",
    ],
)
def test_what_was_looked_at_by_other_code_or_settings_is_not_taken_up(
    tiny: Laboratory, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def folder() -> Path:
        return Laboratory(tiny.size, tiny.parts_on, tiny.watched_for).folder

    assert folder() == tiny.folder
    edit(monkeypatch, path)
    assert folder() != tiny.folder


def test_a_distance_is_judged_at_the_contracts_rate_of_false_alarms() -> None:
    seen = look("2026-03-02", figure("a", 0.3, p_value=0.03))
    assert [Detector("psi", 0.25, rate).names(seen) for rate in (0.01, 0.05)] == [(), ("a",)]
    assert {one.false_alarms for one in lab.detectors(0.05)} == {0.05}


def test_a_look_is_kept_as_it_is() -> None:
    seen = look("2026-03-05", figure("a", 0.4, among="true"), alarms=(("class_drift", "a"),))
    kept = scenarios._from_json(json.loads(json.dumps(scenarios._to_json(seen))))
    assert (kept.as_of, list(kept.figures), list(kept.alarms)) == (
        seen.as_of,
        list(seen.figures),
        list(seen.alarms),
    )


def test_the_page_holds_its_tables_and_is_written_only_for_the_laboratorys_own_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = lab.page(lab.SIZE, 150, 16, "| silent |", "| table |", "| others |")
    assert all(part in made for part in ("| silent |", "| table |", "| others |", "579,000"))
    monkeypatch.setattr("sys.argv", ["drift", "--write", "--rows", "1000"])
    with pytest.raises(SystemExit):
        lab.main()
