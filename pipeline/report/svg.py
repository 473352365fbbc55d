"""A few shapes as SVG text, and the scales that place them. No plotting library: a chart is a few kilobytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape


@dataclass(frozen=True)
class Scale:
    """A linear way from values to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.stop - self.start)


@dataclass(frozen=True)
class TimeScale:
    """A linear way from instants to pixels."""

    first: datetime
    last: datetime
    start: float
    stop: float

    def __call__(self, moment: datetime) -> float:
        span = (self.last - self.first).total_seconds() or 1.0
        return self.start + (moment - self.first).total_seconds() / span * (self.stop - self.start)

    def ticks(self, most: int) -> list[tuple[datetime, str]]:
        """At most so many first instants of years, months or days within, each with its label."""
        first, last = self.first, self.last
        if (last - first).days > 2 * 366:
            return _every(_months(first, last, 12), most, "%Y")
        if (last - first).days > 62:
            return _every(_months(first, last, 1), most, "%Y-%m")
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [midnight + timedelta(days=n) for n in range((last - midnight).days + 1)]
        return _every([day for day in days if day >= first], most, "%m-%d")


def _months(first: datetime, last: datetime, step: int) -> list[datetime]:
    """The first instants of every month within, or of every year with a step of 12."""
    count = (last.year - first.year + 1) * 12
    found = [
        first.replace(
            year=first.year + n // 12, month=n % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0
        )
        for n in range(0, count, step)
    ]
    return [moment for moment in found if first <= moment <= last]


def _every(moments: list[datetime], most: int, form: str) -> list[tuple[datetime, str]]:
    step = max(1, -(-len(moments) // most))
    return [(moment, moment.strftime(form)) for moment in moments[::step]]


def element(tag: str, content: str = "", title: str = "", **attributes: object) -> str:
    """One element; `title` is shown when one points at it, `_` in names stands for `-`."""
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_number(value))}"' for name, value in attributes.items()
    )
    inner = (f"<title>{escape(title)}</title>" if title else "") + content
    return f"<{tag}{said}>{inner}</{tag}>"


def text(x: float, y: float, said: str, **attributes: object) -> str:
    """Text with its baseline at a point."""
    return element("text", escape(said), "", x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> str:
    """A straight line."""
    return element("line", "", "", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def polyline(points: Iterable[tuple[float, float]], **attributes: object) -> str:
    """Straight lines from point to point."""
    joined = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return element("polyline", "", "", points=joined, fill="none", **attributes)


def picture(width: float, height: float, label: str, content: Sequence[str], class_: str = "") -> str:
    """A whole picture that scales with the page; `label` is read out by screen readers."""
    return (
        f'<svg viewBox="0 0 {_number(width)} {_number(height)}" role="img" aria-label="{escape(label)}" '
        f'class="{class_}" xmlns="http://www.w3.org/2000/svg">{"".join(content)}</svg>'
    )


def _number(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
