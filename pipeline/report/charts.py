"""The report's pictures: quality and events on one time axis, and drift by feature.

Each is drawn twice, for a wide page or paper and for a phone: a picture that is merely scaled down can't be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from pipeline.report.model import DriftCell, Figure, Lane, QualityPoint, Report
from pipeline.report.svg import Scale, TimeScale, element, line, picture, polyline, text


@dataclass(frozen=True)
class Frame:
    """The room for a picture, in units of about a pixel.

    Attributes:
        most_left: the most that labels at the left may take; longer ones are cut short.
        character: the width of a letter, in the widest of the common fonts.
        mark: the radius of a point.
        ticks: the most ticks that the time axis has room for.
    """

    name: str
    width: float
    most_left: float
    character: float
    mark: float
    ticks: int
    height: float

    @property
    def right(self) -> float:
        return self.width - 10.0

    def left(self, labels: Sequence[str]) -> float:
        """Where the picture begins, beside its labels."""
        return min(max(map(len, labels), default=0) * self.character + 14.0, self.most_left)

    def label(self, text: str) -> str:
        """The text, cut to the room there is."""
        room = int((self.most_left - 14.0) / self.character)
        return text if len(text) <= room else text[: room - 1] + "…"


WIDE = Frame("wide", 860.0, 264.0, 8.2, 4.5, 8, 250.0)
NARROW = Frame("narrow", 340.0, 134.0, 7.4, 3.2, 4, 190.0)
FRAMES = (WIDE, NARROW)

LANES: tuple[tuple[Lane, str], ...] = (
    ("arrival alarm", "arrival alarms"),
    ("input alarm", "input alarms"),
    ("prediction alarm", "score alarms"),
    ("quality alarm", "quality alarms"),
    ("time alarm", "time alarms"),
    ("training", "trainings"),
    ("failed training", "failed trainings"),
    ("refused", "refused"),
    ("trial", "trials"),
    ("promotion", "promotions"),
)
_ALWAYS = ("input alarm", "quality alarm", "training", "refused", "promotion")
LANE_HEIGHT = 24.0
ROW_HEIGHT = 20.0
# So many features of a drift map fit on a sheet of paper together with their heading.
_FEATURES_A_PICTURE = 32
_COLUMNS = 60


def timeline(report: Report, frame: Frame) -> str:
    """Quality of the models with intervals, and below it what happened, on one time axis."""
    lanes = _lanes(report)
    top, bottom = 26.0, 26.0 + frame.height
    time = _time(report, frame)
    left = time.start
    bounds = list(_bounds(report)) or [0.0, 1.0]
    low, high = math.floor(min(bounds) * 20) / 20, math.ceil(max(bounds) * 20) / 20
    value = Scale(low, high, bottom, top)
    base = bottom + 16
    end = base + LANE_HEIGHT * len(lanes)
    parts = [_grid(time, frame, top, end)]
    for tick in _ticks(low, high):
        y = value(tick)
        parts.append(line(left, y, frame.right, y, class_="grid"))
        parts.append(text(left - 8, y + 4, f"{tick:g}", text_anchor="end", class_="tick"))
    parts.append(text(left - 8, top - 12, report.metric, text_anchor="end", class_="axis"))
    for name in ("frozen", "champion"):
        parts += _quality_line(report, name, time, value, frame)
    for row, (lane, title) in enumerate(lanes):
        y = base + row * LANE_HEIGHT + LANE_HEIGHT / 2
        parts.append(line(left, y, frame.right, y, class_="grid"))
        parts.append(text(left - 8, y + 4, frame.label(title), text_anchor="end", class_="lane"))
        for event in report.events:
            if event.lane == lane:
                said = f"{event.at:%Y-%m-%d}: {event.said}"
                parts.append(element("circle", title=said, cx=time(event.at), cy=y, r=frame.mark + 0.8,
                                     class_="event " + lane.replace(" ", "-")))  # fmt: skip
    label = f"{report.metric} over time, with alarms, trainings, refusals, trials and promotions"
    return picture(frame.width, end + 24, label, parts, class_=frame.name)


@dataclass(frozen=True)
class _Column:
    """Runs that share a column of the drift map, and where it lies."""

    moments: tuple[datetime, ...]
    x: float
    width: float

    def worst(self, cells: Mapping[datetime, DriftCell]) -> tuple[datetime, DriftCell] | None:
        """The cell that says most, an alarm before any other; None where nothing was measured."""
        found = [(moment, cells[moment]) for moment in self.moments if moment in cells]
        return max(found, key=lambda pair: (pair[1].alarm, pair[1].judged, pair[1].value), default=None)


def drift_maps(report: Report, frame: Frame) -> list[str]:
    """One cell a feature and as-of: the darker, the further from what the live model was trained on.

    Many runs share columns, and many features come as several pictures, each of which fits on a sheet of paper.
    """
    features, time = list(report.drift), _time(report, frame)
    columns = _columns(report, time)
    parts = [features[i : i + _FEATURES_A_PICTURE] for i in range(0, len(features), _FEATURES_A_PICTURE)]
    return [_drift_map(report, part, columns, time, frame) for part in parts]


def _columns(report: Report, time: TimeScale) -> list[_Column]:
    moments = sorted({moment for cells in report.drift.values() for moment in cells})
    share = -(-len(moments) // _COLUMNS) or 1
    groups = [tuple(moments[i : i + share]) for i in range(0, len(moments), share)]
    # A column covers the time before its last as-of.
    edges = [time.start, *(time(group[-1]) for group in groups)]
    room = [max(stop - start, 1.0) for start, stop in pairwise(edges)]
    usual = median(room) if room else 1.0
    widths = [min(one, usual) for one in room]
    return [
        _Column(group, edge - width, width * 0.94)
        for group, edge, width in zip(groups, edges[1:], widths, strict=True)
    ]


def _drift_map(
    report: Report, features: Sequence[str], columns: Sequence[_Column], time: TimeScale, frame: Frame
) -> str:
    parts, top = [], 4.0
    for row, feature in enumerate(features):
        y = top + row * ROW_HEIGHT
        label = frame.label(feature)
        parts.append(text(time.start - 8, y + ROW_HEIGHT / 2 + 4, label, text_anchor="end", class_="lane"))
        for column in columns:
            found = column.worst(report.drift[feature])
            if found is None:
                continue
            moment, cell = found
            strength = min(cell.value / (4 * report.drift_threshold), 1.0)
            said = (
                f"{feature}, {moment:%Y-%m-%d}: {report.drift_measure} {cell.value:.3f}, {cell.rows:,} rows"
                f"{_verdict(cell)}"
            )
            parts.append(
                element(
                    "rect",
                    # Nobody points at a cell on a phone.
                    title=said if frame is WIDE else "",
                    x=column.x,
                    y=y + 2,
                    width=column.width,
                    height=ROW_HEIGHT - 4,
                    rx=min(2.0, column.width / 4),
                    fill_opacity=round(0.08 + 0.92 * strength, 2),
                    class_="cell" + (" alarm" if cell.alarm else "" if cell.judged else " unjudged"),
                )
            )
    bottom = top + len(features) * ROW_HEIGHT
    parts.append(_grid(time, frame, top, bottom))
    return picture(
        frame.width, bottom + 24, f"{report.drift_measure} by feature and run", parts, class_=frame.name
    )


def _verdict(measured: DriftCell) -> str:
    if measured.alarm:
        return ", an alarm"
    return "" if measured.judged else ", too few to judge"


def _lanes(report: Report) -> list[tuple[Lane, str]]:
    """The lanes that are drawn: those that any report has, and those in which something happened."""
    present = {event.lane for event in report.events}
    return [(lane, title) for lane, title in LANES if lane in present or lane in _ALWAYS]


def _time(report: Report, frame: Frame) -> TimeScale:
    """One time axis for all pictures, so that they can be read one below the other."""
    labels = [*(title for _, title in _lanes(report)), *report.drift]
    return TimeScale(report.first, report.last, frame.left(labels), frame.right)


def _bounds(report: Report) -> Iterator[float]:
    for point in report.quality:
        for figure in (point.champion, point.frozen):
            if figure is not None:
                yield from (one for one in (figure.value, figure.low, figure.high) if one is not None)


def _quality_line(report: Report, name: str, time: TimeScale, value: Scale, frame: Frame) -> list[str]:
    parts, points = [], []
    aside = (-1 if name == "frozen" else 1) * frame.mark / 2 if report.compared else 0.0
    for point in report.quality:
        figure: Figure | None = getattr(point, name)
        if figure is None or figure.value is None:
            continue
        x = time(_middle(point)) + aside
        points.append((x, value(figure.value)))
        said = f"{point.label}, {name}: {report.metric} {figure.value:.3f}, {point.rows:,} rows"
        if figure.low is not None and figure.high is not None:
            said += f", 90 % interval {figure.low:.3f} to {figure.high:.3f}"
            parts.append(line(x, value(figure.low), x, value(figure.high), class_=f"interval {name}"))
        parts.append(
            element("circle", title=said, cx=x, cy=value(figure.value), r=frame.mark, class_=f"point {name}")
        )
    return [polyline(points, class_=f"series {name}"), *parts] if points else []


def _middle(point: QualityPoint) -> datetime:
    return point.start + (point.stop - point.start) / 2


def _grid(time: TimeScale, frame: Frame, top: float, bottom: float) -> str:
    parts = []
    for moment, label in time.ticks(frame.ticks):
        x = time(moment)
        parts.append(line(x, top, x, bottom, class_="year"))
        parts.append(text(x, bottom + 16, label, text_anchor="middle", class_="tick"))
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 100) if (high - low) / s <= 8), high - low or 1)
    count = round((high - low) / step)
    return [round(low + i * step, 10) for i in range(count + 1)]
