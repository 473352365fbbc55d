"""Drift among the rows of one class: what positives look like now, beside those that the champion learned from.

A new kind of fraud is a small part of all rows, so it moves no distribution of an input far; among the frauds it
is soon a large part. What changed is P(x | y), and only labels tell it: looked at are the rows whose labels became
due, which is `label.due_after` later than `inputs` sees a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from caudal.event_time import happened_by
from caudal.labels import label_value, watched_classes
from caudal.sql import quoted
from caudal.tables import warehouse_table
from monitor.drift import Subject, Tested, drift_of
from monitor.earlier_runs import previous_as_of, taken_after
from monitor.histograms import Histogram, HistogramQuery
from monitor.independence import INDEPENDENT, Condition, DesignEffect, design_effects, entity_of
from monitor.inputs import arrivals
from monitor.measurements import Measurement
from monitor.warm_up import Profile, WarmUp, learned

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.contract.monitoring import ClassDrift
    from caudal.package import ModelPackage
    from caudal.step import StepContext


def class_drift(context: StepContext, package: ModelPackage) -> tuple[list[Measurement], list[Tested]]:
    """The distances of each feature within each watched class, and the tests of those that decide.

    Nothing where the contract asks for nothing, or where the champion's package was made before profiles counted
    by class.
    """
    contract, drift = context.contract, context.contract.monitor.class_drift
    known = package.profile.get("classes", {})
    classes = _classes(contract, known)
    if drift is None or not classes:
        return [], []
    due = _became_due(context, drift)
    effects = _design_effects(context, package, classes, due)
    entities = entity_of(contract)
    measured: list[Measurement] = []
    tested: list[Tested] = []
    for (of, feature), (profile, histogram) in _counted(context, package, classes, due).items():
        effect = effects[entities[feature]][of] if feature in entities else INDEPENDENT
        subject = Subject("class_drift", f"among_{of}_", feature, of)
        described, test = drift_of(subject, profile, histogram, drift, effect, drift.minimum_training_rows)
        measured += described
        tested += [test] if test else []
    return measured, tested


def _classes(contract: Contract, known: Mapping[str, Any]) -> dict[str, Condition]:
    """The watched classes that the champion's profile counts, each with the condition that a row is of it."""
    label = quoted(contract.label.column)
    return {
        name: (f"{label} = @class{i}", {f"class{i}": label_value(contract, name)})
        for i, name in enumerate(watched_classes(contract))
        if name in known
    }


def _became_due(context: StepContext, drift: ClassDrift) -> Condition:
    """Rows whose label is due, and was not (or was not known) when the window began."""
    contract, as_of = context.contract, context.run.as_of
    since = previous_as_of(context) if drift.window is None else as_of - drift.window
    due, parameters = happened_by(contract, as_of - contract.label.due_after, "due")
    before, more = happened_by(contract, since - contract.label.due_after, "due_before")
    taken, known = taken_after(contract, since)
    condition = f"({due} AND _first_as_of <= @as_of AND (NOT {before} OR {taken}))"
    return condition, {**parameters, **more, **known, "as_of": as_of}


def _counted(
    context: StepContext, package: ModelPackage, classes: Mapping[str, Condition], due: Condition
) -> dict[tuple[str, str], tuple[Profile, Histogram]]:
    """By class and feature, the champion's profile and the histogram of the rows that became due; one query."""
    contract, table = context.contract, warehouse_table(context.contract)
    warm_up = WarmUp(contract, arrivals(context).first)
    query = HistogramQuery(table.sql_name, due[0], due[1])
    profiles: dict[tuple[str, str], Profile] = {}
    for of, (condition, parameters) in classes.items():
        known = package.profile["classes"][of]["features"]
        given = {f.name: known[f.name] for f in contract.model_features() if f.name in known}
        for feature, one in warm_up.comparable(context, package, given, condition, parameters).items():
            full, moment = warm_up.condition(feature, query.unused_parameter())
            within = f"{condition} AND {full}" if full else condition
            kind = table.schema.field(feature).type
            query.add(feature, one, kind, within, {**parameters, **moment}, name=f"{of}.{feature}")
            profiles[of, feature] = one
    _, histograms = query.run(context.warehouse)
    return {key: (profile, histograms[".".join(key)]) for key, profile in profiles.items()}


def _design_effects(
    context: StepContext, package: ModelPackage, classes: Mapping[str, Condition], due: Condition
) -> dict[str, dict[str, DesignEffect]]:
    """By the entity of windows, and by class."""
    contract = context.contract
    return {
        entity: design_effects(context.warehouse, contract, entity, learned(contract, package), due, classes)
        for entity in sorted(set(entity_of(contract).values()))
    }
