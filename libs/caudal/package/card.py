"""The model card: the package's facts in the order in which people ask for them (Mitchell et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caudal.contract import Contract

_SMALL = 100


def model_card(contract: Contract, metadata: Mapping[str, Any], profile: Mapping[str, Any]) -> str:
    """Markdown made from facts alone; what is not known is not said."""
    sections = [
        f"# {contract.name}, model {metadata['version']}\n\n{contract.question}",
        _purpose(contract, metadata),
        _data(contract, metadata),
        _quality(metadata),
        _features(contract),
        _limits(contract, metadata),
        _drift_reference(contract, profile),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _purpose(contract: Contract, metadata: Mapping[str, Any]) -> str:
    label = contract.label
    said = {
        "binary": f"the probability that `{label.column}` is `{label.positive}`",
        "multiclass": f"the probability of each value of `{label.column}`",
        "regression": f"the value of `{label.column}`",
    }[contract.task]
    lines = ["## What it does", "", f"It gives {said}."]
    if metadata["threshold"] is not None:
        costs = contract.model.threshold
        why = (
            f": it costs least when a false positive costs {costs.cost_false_positive:g} "
            f"and a false negative {costs.cost_false_negative:g}"
            if costs
            else ""
        )
        lines.append(f"A score of {metadata['threshold']:.4f} or more counts as positive{why}.")
    if metadata["calibration"]:
        lines.append(f"Its scores are calibrated ({metadata['calibration']['method']}).")
    return "\n".join(lines)


def _data(contract: Contract, metadata: Mapping[str, Any]) -> str:
    trained, judged = metadata["trained"], metadata["judged"]
    rows = [
        ("snapshot", metadata["snapshot"]),
        ("trained on", _part(trained)),
        ("judged on", f"{_part(judged)}, by model {judged['version']} (the same recipe, trained before them)"),
        ("source", contract.source.citation),
        ("licence of the data", contract.source.licence),
        ("trainer", metadata["unit"]),
    ]
    return "## Data\n\n" + _table(("fact", "value"), [(k, v) for k, v in rows if v])


def _part(part: Mapping[str, Any]) -> str:
    return f"{part['rows']} rows, {part['from']} to {part['until']}"


def _quality(metadata: Mapping[str, Any]) -> str:
    metrics = metadata["metrics"]
    level = metadata["judged"]["level"]
    rows = [
        (name, f"{value['value']:.4f}", f"{value['low']:.4f} to {value['high']:.4f}" if "low" in value else "")
        for name, value in metrics["all"].items()
        if value["value"] is not None
    ]
    made = [
        "## Quality on the judging rows\n",
        "No model had seen these rows; the recipe was judged on them before it was refitted on all rows.\n",
        _table(("metric", "value", f"{level:.0%} interval"), rows),
    ]
    for column, values in metrics["slices"].items():
        names = sorted({name for value in values.values() for name in value["metrics"]})
        lines = [
            (value, str(figures["rows"]), *(_figure(figures["metrics"].get(name)) for name in names))
            for value, figures in sorted(values.items())
        ]
        made.append(f"\n### By {column}\n\n" + _table((column, "rows", *names), lines))
    return "\n".join(made)


def _features(contract: Contract) -> str:
    by_kind: dict[str, list[str]] = {}
    for feature in contract.model_features():
        by_kind.setdefault(feature.kind, []).append(f"`{feature.name}`")
    rows = [(kind, ", ".join(names)) for kind, names in by_kind.items()]
    made = "## Features\n\n" + _table(("kind", "columns"), rows)
    if contract.never:
        made += "\n\nNever used:\n\n" + _list(f"`{name}`: {why}" for name, why in contract.never.items())
    return made


def _limits(contract: Contract, metadata: Mapping[str, Any]) -> str:
    said = [
        "It knows nothing of what happened after " + str(metadata["trained"]["until"]) + ".",
        f"A label counts {contract.label.due_after.days} days after the event; later corrections are not in it."
        if contract.label.due_after.days
        else "",
        "A value that training did not see counts as missing.",
    ]
    for column, values in metadata["metrics"]["slices"].items():
        small = sorted(value for value, figures in values.items() if figures["rows"] < _SMALL)
        if small:
            said.append(f"Fewer than {_SMALL} judging rows for `{column}` in: {', '.join(small)}.")
    personal = sorted({f.name for f in contract.model_features()} & contract.personal_columns())
    if personal:
        said.append("It uses personal data: " + ", ".join(f"`{name}`" for name in personal) + ".")
    return "## Limits\n\n" + _list(line for line in said if line)


def _drift_reference(contract: Contract, profile: Mapping[str, Any]) -> str:
    rows, personal = [], contract.personal_columns()
    for name, seen in profile["features"].items():
        if name in personal:
            # The smallest and the largest value are somebody's.
            span = "personal, not shown"
        elif seen["kind"] == "numeric":
            span = "" if seen["min"] is None else f"{seen['min']:g} to {seen['max']:g}"
        else:
            span = f"{len(seen['values'])} values"
        rows.append((name, str(seen["missing"]), span))
    return (
        f"## Drift reference\n\n`profile.json` counts these {profile['rows']} training rows in fixed bins.\n\n"
        + _table(("feature", "missing", "range"), rows)
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
