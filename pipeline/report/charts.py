"""The report's pictures: quality and events on one time axis, drift by feature, the flow of rows."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from itertools import pairwise

from pipeline.report.model import Figure, Lane, QualityPoint, Report
from pipeline.report.svg import Scale, TimeScale, element, line, picture, polyline, text

WIDTH = 960.0
LEFT, RIGHT = 130.0, 20.0
LANES: tuple[tuple[Lane, str], ...] = (
    ("input alarm", "input alarms"),
    ("quality alarm", "quality alarms"),
    ("training", "trainings"),
    ("refused", "refused"),
    ("promotion", "promotions"),
)
LANE_HEIGHT = 26.0


def timeline(report: Report) -> str:
    """Quality of the live and of the frozen model with intervals, and below it what happened, on one time axis."""
    top, height = 26.0, 260.0
    bottom = top + height
    time = TimeScale(report.first, report.last, LEFT, WIDTH - RIGHT)
    bounds = [
        bound
        for point in report.quality
        for figure in (point.champion, point.frozen)
        for bound in (figure.value, figure.low, figure.high)
        if bound is not None
    ] or [0.0, 1.0]
    low, high = math.floor(min(bounds) * 20) / 20, math.ceil(max(bounds) * 20) / 20
    value = Scale(low, high, bottom, top)
    parts = [_years(time, top, bottom + 34 + LANE_HEIGHT * len(LANES))]
    for tick in _ticks(low, high):
        y = value(tick)
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, class_="grid"))
        parts.append(text(LEFT - 8, y + 4, f"{tick:g}", text_anchor="end", class_="tick"))
    parts.append(text(LEFT - 8, top - 14, report.metric, text_anchor="end", class_="axis"))
    for name in ("frozen", "champion"):
        parts += _quality_line(report, name, time, value)
    base = bottom + 34
    for row, (lane, title) in enumerate(LANES):
        y = base + row * LANE_HEIGHT + LANE_HEIGHT / 2
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, class_="grid"))
        parts.append(text(LEFT - 8, y + 4, title, text_anchor="end", class_="lane"))
        for event in report.events:
            if event.lane == lane:
                said = f"{event.at:%Y-%m-%d}: {event.said}"
                parts.append(element("circle", title=said, cx=time(event.at), cy=y, r=5.5,
                                     class_="event " + lane.replace(" ", "-")))  # fmt: skip
    total = base + LANE_HEIGHT * len(LANES) + 24
    parts += [
        text(time(year), total - 6, f"{year:%Y}", text_anchor="middle", class_="tick") for year in time.years()
    ]
    return picture(
        WIDTH, total, f"{report.metric} of both models, alarms, trainings and promotions over time", parts
    )


def _quality_line(report: Report, name: str, time: TimeScale, value: Scale) -> list[str]:
    parts, points = [], []
    shift = timedelta(days=-3 if name == "frozen" else 3)
    for point in report.quality:
        figure: Figure = getattr(point, name)
        if figure.value is None:
            continue
        x = time(_middle(point) + shift)
        points.append((x, value(figure.value)))
        said = f"{point.label}, {name}: {report.metric} {figure.value:.3f}, {point.rows:,} rows"
        if figure.low is not None and figure.high is not None:
            said += f", 90 % interval {figure.low:.3f} to {figure.high:.3f}"
            parts.append(line(x, value(figure.low), x, value(figure.high), class_=f"interval {name}"))
        parts.append(element("circle", title=said, cx=x, cy=value(figure.value), r=4.0, class_=f"point {name}"))
    return [polyline(points, class_=f"series {name}"), *parts]


def _middle(point: QualityPoint) -> datetime:
    return point.start + (point.stop - point.start) / 2


def drift_map(report: Report) -> str:
    """One cell a feature and month: the darker, the further from what the live model was trained on."""
    features = list(report.drift)
    moments = sorted({moment for values in report.drift.values() for moment in values})
    if not features or not moments:
        return ""
    time = TimeScale(report.first, report.last, LEFT, WIDTH - RIGHT)
    between = [later - earlier for earlier, later in pairwise(moments)] or [report.last - report.first]
    cell = (time(report.first + min(between)) - LEFT) * 0.94
    height, top = 22.0, 8.0
    parts = []
    for row, feature in enumerate(features):
        y = top + row * height
        parts.append(text(LEFT - 8, y + height / 2 + 4, feature, text_anchor="end", class_="lane"))
        for moment, measured in report.drift[feature].items():
            strength = min(measured / (4 * report.drift_threshold), 1.0)
            alarm = measured > report.drift_threshold
            said = f"{feature}, {moment:%Y-%m}: {report.drift_measure} {measured:.3f}"
            parts.append(
                element(
                    "rect",
                    title=said + (", above the threshold" if alarm else ""),
                    # A cell covers the time before its as-of.
                    x=max(time(moment) - cell, LEFT),
                    y=y + 2,
                    width=cell,
                    height=height - 4,
                    rx=2,
                    fill_opacity=round(0.06 + 0.94 * strength, 3),
                    class_="cell alarm" if alarm else "cell",
                )
            )
    bottom = top + len(features) * height
    parts.append(_years(time, top, bottom))
    parts += [
        text(time(year), bottom + 18, f"{year:%Y}", text_anchor="middle", class_="tick") for year in time.years()
    ]
    return picture(WIDTH, bottom + 28, f"{report.drift_measure} by feature and month", parts)


def flow(report: Report) -> str:
    """Where the rows went: each bar is as long as its share of what landed."""
    rows = report.rows
    landed = max(rows["landed"], 1)
    stages = (
        ("landed", (("landed", rows["landed"]),)),
        ("lake", (("lake", rows["lake"]), ("quarantined", rows["quarantined"]))),
        ("warehouse", (("warehouse", rows["warehouse"]), ("duplicates", rows["duplicates"]),
                       ("rejected", rows["rejected"]))),
        ("scored", (("scored", rows["scored"]),)),
    )  # fmt: skip
    height = 34.0
    full = WIDTH - RIGHT - LEFT
    parts = []
    for position, (stage, fates) in enumerate(stages):
        y = 6 + position * height
        x = LEFT
        parts.append(text(LEFT - 8, y + 17, stage, text_anchor="end", class_="lane"))
        for fate, amount in fates:
            width = amount / landed * full
            if amount:
                parts.append(element("rect", title=f"{fate}: {amount:,} rows", x=x, y=y, width=max(width, 1.5),
                                     height=height - 10, rx=2, class_=f"flow {fate}"))  # fmt: skip
            x += width
        said = ", ".join(f"{fate} {amount:,}" for fate, amount in fates)
        parts.append(text(LEFT + 8, y + 16, said, class_="on-bar"))
    return picture(WIDTH, 6 + len(stages) * height, "the flow of rows", parts)


def _years(time: TimeScale, top: float, bottom: float) -> str:
    return "".join(line(time(year), top, time(year), bottom, class_="year") for year in time.years())


def _ticks(low: float, high: float) -> list[float]:
    step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 100) if (high - low) / s <= 8), high - low or 1)
    count = round((high - low) / step)
    return [round(low + i * step, 10) for i in range(count + 1)]
