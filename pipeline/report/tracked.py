"""The report's figures in MLflow too, so that both show the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caudal.identity import digest
from caudal.tracking import Point, Tracking

if TYPE_CHECKING:
    from pipeline.report.build import Reported

COUNTS = ("runs", "retrainings", "candidates_refused", "promotions", "files_quarantined", "bytes_shuffled")


def track(reported: Reported, tracking: Tracking) -> str:
    """Records the figures as one run below the contract's name, found again by what they are.

    The same figures are the same run, however often they are reported. Quarters are steps, from 0; the instant of
    a step is the quarter's end. Names are those of the summary: `champion.auc` over all rows,
    `quarter.champion.auc` with `.low` and `.high`, `rows.landed`, `rejected.<reason>`.

    Returns:
        MLflow's id of the run.
    """
    report, summary = reported.report, reported.summary
    contract = summary["contract"]
    figures = {name: value for name, value in summary.items() if not name.startswith("seconds")}
    metrics = {
        f"{model}.{name}": value for model, pooled in report.pooled.items() for name, value in pooled.items()
    }
    metrics |= {f"rows.{fate}": rows for fate, rows in report.rows.items()}
    metrics |= {f"rejected.{reason}": rows for reason, (rows, _) in report.reasons().items()}
    metrics |= {name: summary[name] for name in COUNTS}
    metrics |= {f"trials.{name}": count for name, count in summary["trials"].items()}
    metrics["alarms"] = len(summary["alarms"])
    return tracking.record(
        f"{contract}/reports",
        f"{contract}/report/{report.kind}/{digest('report', figures)[:16]}",
        name=f"{report.kind} {report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}",
        at=report.last,
        parameters={"quarters": ", ".join(point.label for point in report.quality), "metric": report.metric},
        metrics=metrics,
        series=_quarters(reported),
        tags={"kind": report.kind},
    )


def _quarters(reported: Reported) -> dict[str, list[Point]]:
    """By name, one point a quarter."""
    report = reported.report
    series: dict[str, list[Point]] = {}

    def add(name: str, step: int, value: float | None) -> None:
        at = report.quality[step].stop
        series.setdefault(f"quarter.{name}", []).append(Point(step, at, value))

    for step, (point, part) in enumerate(zip(report.quality, reported.summary["quarters"], strict=True)):
        add("rows", step, point.rows)
        for model in report.pooled:
            figure = getattr(point, model)
            for name, value in part[model].items():
                if name != report.metric:
                    add(f"{model}.{name}", step, value)
            add(f"{model}.{report.metric}", step, figure.value)
            add(f"{model}.{report.metric}.low", step, figure.low)
            add(f"{model}.{report.metric}.high", step, figure.high)
    return series
