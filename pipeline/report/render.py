"""The report as one HTML file: style, pictures and tables inline, nothing fetched."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.model import Report


def render(report: Report) -> str:
    """The page."""
    templates = Environment(
        loader=PackageLoader("pipeline.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # The pictures escape what they are given themselves (pipeline.report.svg).
    pictures = {
        "timeline": Markup(charts.timeline(report)),
        "drift": Markup(charts.drift_map(report)),
        "flow": Markup(charts.flow(report)),
    }
    return templates.get_template("report.html.j2").render(report=report, **pictures)
