"""`caudal replay`: a data set's history in a minute."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import contract_argument, json_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from caudal.environment import Environment
    from caudal.step import Run, StepResult
    from pipeline.replay.replay import Replay, Replayed
    from pipeline.runs import StepRecord

DEFAULT_ROWS = 50_000


@click.command(
    "replay",
    epilog="Examples: `caudal replay bank_marketing --fresh`, "
    "`caudal replay wallet --every week --rows 50000 --inject amounts@120`, "
    "`caudal replay bank_marketing --rollout challenger`.",
)
@contract_argument
@click.option("--fresh", is_flag=True, help="Start over, whatever an earlier replay left.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder with the sample; default: data/CONTRACT/.",
)
@click.option(
    "--every",
    type=click.Choice(["month", "week", "day"]),
    default="month",
    show_default=True,
    help="How often a file lands and a run starts.",
)
@click.option("--rows", type=click.IntRange(min=1), help="Simulate a sample of about so many rows (wallet).")
@click.option("--days", type=click.IntRange(min=1, max=36_500), help="How many days are simulated.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed simulates other rows.")
@click.option(
    "--inject",
    multiple=True,
    metavar="KIND@DAY",
    help="Simulate with a lasting change, as `caudal simulate` has it; may be said again.",
)
@click.option(
    "--dirt",
    multiple=True,
    metavar="KIND",
    help="Simulate with a defect, as `caudal simulate` has it; may be said again.",
)
@click.option(
    "--rollout",
    type=click.Choice(["champion", "challenger"]),
    help="What a candidate that passed the gate becomes, instead of the environment's `rollout`; a challenger "
    "scores in the shadow until its trial promotes or drops it.",
)
@click.option("--env", default="local", show_default=True, help="The environment, a local one.")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    help="The replay's folder, empty or an earlier replay's; default: .caudal/replay/CONTRACT/.",
)
@json_option
def command(
    contract: str,
    fresh: bool,
    data: Path | None,
    every: Any,
    rows: int | None,
    days: int | None,
    seed: int,
    inject: tuple[str, ...],
    dirt: tuple[str, ...],
    rollout: Any,
    env: str,
    root: Path | None,
    as_json: bool,
) -> None:
    """Replay the history of CONTRACT's sample.

    Each period's file lands, and the whole pipeline runs as it would have run then: ingest, transform, score with
    the model that was live, watch, and only then perhaps retrain, with the labels due by then. What is complete
    is kept: a replay that was stopped goes on, one that has nothing new to do shows its summary.
    """
    from pipeline.cli.output import console, show_json
    from pipeline.project import find_contract, find_environment, project_root
    from pipeline.replay.replay import SUMMARY_FILE, Replay
    from pipeline.replay.sample import find_sample
    from pipeline.replay.simulated import SampleRequest, simulated_sample

    parsed = find_contract(contract)
    folder = (root or project_root() / ".caudal" / "replay" / parsed.name).absolute()
    if rows is not None or inject or dirt:
        request = SampleRequest(rows or DEFAULT_ROWS, days, seed, inject, dirt)
        data = simulated_sample(parsed.name, request, folder.parent / f"{folder.name}-samples")
    files = find_sample(project_root(), parsed.name, data)
    environment = replay_environment(find_environment(env, folder), rollout)
    replay = Replay(parsed, environment, files, every, as_landed=bool(dirt))
    if replay.finished() and not fresh:
        summary = json.loads((folder / SUMMARY_FILE).read_text())
        if not as_json:
            click.echo("Nothing has changed since this replay was made; --fresh makes it again.")
    else:
        # Dirt is wanted: the pipeline must tell of it, not this command.
        if not dirt:
            _check_sample(replay)
        summary = _replay(replay, fresh, None if as_json else console())
    if as_json:
        show_json(summary)
    else:
        show_summary(summary, folder)


def replay_environment(environment: Environment, rollout: str | None = None) -> Environment:
    """The environment without the console among the destinations of alarms, since the progress shows them.

    Args:
        rollout: replaces the environment's own.
    """
    kept = tuple(destination for destination in environment.alarms if destination.type != "console")
    update = {"alarms": kept or environment.alarms, "rollout": rollout or environment.rollout}
    return environment.model_copy(update=update)


def _check_sample(replay: Replay) -> None:
    """Holds the sample against the contract before anything is written."""
    from pipeline.data_check import check_data

    for path in replay.files:
        check_data(replay.contract, path)


def _replay(replay: Replay, fresh: bool, screen: Console | None) -> dict[str, Any]:
    from caudal.backends import open_storage, open_warehouse
    from caudal.tracking import Tracking
    from pipeline.replay.replay import REPORT_FILE, SUMMARY_FILE
    from pipeline.report.build import Period, replay_report
    from pipeline.report.render import render
    from pipeline.report.tracked import track

    goes_on = replay.prepare(fresh=fresh)
    progress = Progress(screen, replay.contract.live_metric)
    if screen is not None:
        screen.print(
            f"{'Going on with the' if goes_on else 'The'} replay of {replay.contract.name}, by {replay.every}"
        )
    storage = open_storage(replay.environment)
    with progress, open_warehouse(replay.environment) as warehouse:
        replayed = replay.run(progress, progress.period_over)
        progress.say("writing the report")
        periods = [Period(one.delivery.label, one.delivery.since, one.record) for one in replayed]
        reported = replay_report(replay.contract, replay.environment, storage, warehouse, periods)
        track(reported, Tracking.of(replay.environment))
    summary = dict(reported.summary)
    storage.write_json((replay.folder / SUMMARY_FILE).as_uri(), summary)
    # The report is written last: it marks the replay as complete.
    storage.write((replay.folder / REPORT_FILE).as_uri(), render(reported.report).encode())
    return summary


class Progress:
    """Shows the period, the step, rows, alarms and promotions while a replay goes on; silent without a screen."""

    def __init__(self, screen: Console | None, metric: str) -> None:
        self._screen = screen
        self._metric = metric
        self._status: Status | None = None
        self._running: list[str] = []
        self._guard = threading.Lock()
        self._started = time.monotonic()

    def __enter__(self) -> Progress:
        if self._screen is not None:
            self._screen.print(f"{'period':<10} {'rows':>6} {'scored':>6}  {'quality':<12} what happened")
            if self._screen.is_terminal:
                self._status = self._screen.status("starting")
                self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, what: str) -> None:
        """Shows what is being done now."""
        if self._status is not None:
            self._status.update(f"{what}  ({time.monotonic() - self._started:.0f} s)")

    def step_started(self, run: Run, step: str) -> None:
        with self._guard:
            self._running.append(step)
            self.say(f"{run.as_of:%Y-%m-%d}: {', '.join(self._running)}")

    def step_ended(self, run: Run, step: str, record: StepRecord, result: StepResult | None) -> None:
        with self._guard:
            if step in self._running:
                self._running.remove(step)

    def period_over(self, replayed: Replayed) -> None:
        """Prints the period in one line."""
        if self._screen is None:
            return
        from rich.text import Text

        from pipeline.report.events import alarm_text, alarms_of, rebuilt_text, verdict_text

        results = replayed.record.results
        alarms = alarms_of(results)
        line = Text(
            f"{replayed.delivery.label:<10} {results.get('ingest', {}).get('rows', 0):>6} "
            f"{results.get('score', {}).get('rows', 0):>6}  {self._quality(results):<12} "
        )
        rebuilt = rebuilt_text(results)
        said = [(rebuilt, "yellow")] if rebuilt else []
        verdict = verdict_text(results)
        if verdict:
            said.append((verdict, "red" if "refused" in verdict or "dropped" in verdict else "green"))
        if alarms:
            worst = sorted(alarms, key=lambda alarm: -float(alarm["value"] or 0))
            named = ", ".join(alarm_text(alarm) for alarm in worst)
            said.append((f"{len(alarms)} alarm{'s' if len(alarms) > 1 else ''}: {named}", "yellow"))
        for position, (text, style) in enumerate(said):
            line.append(("; " if position else "") + text, style=style)
        self._screen.print(line, no_wrap=True, overflow="ellipsis")

    def _quality(self, results: Mapping[str, Any]) -> str:
        """What the labels that became due in this period say of the live model."""
        value = results.get("outcomes", {}).get("measures", {}).get(f"live_{self._metric}")
        return "-" if value is None else f"{self._metric} {value:.3f}"


def show_summary(summary: dict[str, Any], folder: Path) -> None:
    """Prints the summary's table and what to do next."""
    from pipeline.cli.output import show_table
    from pipeline.project import relative

    names = [name for name in summary["pooled"]["champion"] if name != "n"]
    short = {"average_precision": "AP", "auc": "AUC", "log_loss": "loss"}
    heads = [f"{short.get(name, name)} {which}" for which in ("live", "frozen") for name in names]
    columns = ["quarter", "rows", *heads]
    rows = [
        [part["quarter"], f"{part['n']:,}", *_shown(part["champion"], names), *_shown(part["frozen"], names)]
        for part in summary["quarters"]
    ]
    pooled = summary["pooled"]
    rows.append(["all", f"{pooled['champion']['n']:,}", *_shown(pooled["champion"], names),
                 *_shown(pooled["frozen"], names)])  # fmt: skip
    show_table(columns, rows, numbers=columns[1:])
    fates = summary["rows"]
    click.echo(
        f"rows: {fates['landed']:,} landed = {fates['quarantined']:,} quarantined + {fates['lake']:,} in lake; "
        f"of those {fates['duplicates']:,} duplicates, {fates['rejected']:,} rejected, "
        f"{fates['removed']:,} removed, "
        f"{fates['warehouse']:,} in the warehouse; {fates['scored']:,} scored"
    )
    click.echo(
        f"{summary['runs']} runs, {summary['retrainings']} retrainings, {summary['promotions']} promotions, "
        f"{summary['candidates_refused']} candidates refused, {len(summary['alarms'])} alarms, "
        f"{summary['seconds']:.1f} s of work"
    )
    trials = summary["trials"]
    if trials["begun"]:
        click.echo(
            f"{trials['begun']} challengers went on trial: {trials['promoted']} promoted, "
            f"{trials['dropped']} dropped"
        )
    shown = relative(folder)
    click.echo("\nNext:")
    click.echo(f"  open {shown}/report.html in a browser")
    click.echo(f"  caudal models history {summary['contract']} --root {shown}")
    click.echo(
        f"  make ui, for every training and verdict in MLflow; then change contracts/{summary['contract']}.yaml"
    )


def _shown(figures: dict[str, Any], names: list[str]) -> list[str]:
    return ["-" if figures[name] is None else f"{figures[name]:.3f}" for name in names]
