"""The report as one HTML file: style, pictures and tables inline, nothing fetched."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.model import Figure, Report


def render(report: Report) -> str:
    """The page."""
    templates = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(count=_count, figure=_figure, interval=_interval, bytes=_bytes, seconds=_seconds)
    # The pictures escape what they are given themselves (pipeline.report.svg).
    timelines = [Markup(charts.timeline(report, frame)) for frame in charts.FRAMES]
    # Each part of the map in every width, one beside the other.
    drawn = zip(
        *([Markup(one) for one in charts.drift_maps(report, frame)] for frame in charts.FRAMES), strict=True
    )
    return templates.get_template("report.html.j2").render(
        report=report,
        timelines=timelines,
        maps=list(drawn),
        flow=_flow(report),
        worst=_worst(report),
    )


def _flow(report: Report) -> list[list[tuple[str, int, float]]]:
    """Where the rows went: by stage, each fate with its rows and its share of what landed, in percent."""
    rows = report.rows
    landed = max(rows["landed"], 1)
    stages = (
        ("landed",),
        ("lake", "quarantined"),
        ("warehouse", "duplicates", "rejected", "removed"),
        ("scored",),
    )
    return [[(fate, rows[fate], round(100 * rows[fate] / landed, 2)) for fate in stage] for stage in stages]


def _worst(report: Report) -> list[tuple[str, float, str, int, int]]:
    """By feature, the highest drift that could be judged, its day, and how many of the runs raised an alarm."""
    found = []
    for feature, cells in report.drift.items():
        judged = {moment: cell for moment, cell in cells.items() if cell.judged}
        if judged:
            moment = max(judged, key=lambda one: judged[one].value)
            alarms = sum(cell.alarm for cell in judged.values())
            found.append((feature, judged[moment].value, f"{moment:%Y-%m-%d}", alarms, len(judged)))
    return sorted(found, key=lambda one: -one[1])


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return "-"
    return f"{figure.low:.3f} to {figure.high:.3f}"


def _bytes(value: int | None) -> str:
    """Bytes in the unit that leaves at most three digits before the point."""
    if value is None:
        return ""
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
