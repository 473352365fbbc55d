"""How many independent observations rows are, when several of them tell of one entity.

A window feature of one entity is nearly the same in all of that entity's rows: a terminal that gives sixty frauds
gives one value sixty times. A test that took them for sixty observations would find drift in every week.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caudal.sql import quoted
from caudal.tables import warehouse_table

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.warehouse import Warehouse

Condition = tuple[str, Mapping[str, Any]]
"""Which rows are meant: a condition in SQL, and the parameters that it uses."""


@dataclass(frozen=True)
class DesignEffect:
    """So many rows tell as much as one independent row would; at least 1.

    Attributes:
        reference: of the rows in training.
        recent: of the live rows.
    """

    reference: float = 1.0
    recent: float = 1.0


INDEPENDENT = DesignEffect()


def entity_of(contract: Contract) -> dict[str, str]:
    """The entity of each window feature."""
    return {name: window.entity for window in contract.features.windows for name in window.feature_names()}


def design_effects(
    warehouse: Warehouse,
    contract: Contract,
    entity: str,
    reference: Condition,
    recent: Condition,
    classes: Mapping[str, Condition],
) -> dict[str, DesignEffect]:
    """By class, the design effect of one entity's window features.

    With m rows of an entity it is the sum of m x m over the sum of m: Kish's design effect for clusters of
    unequal size whose rows are all alike (Gabler, Haeder, Lahiri, 1999, A model based justification of Kish's
    formula for design effects, Survey Methodology 25(1); a correlation of 1 within the cluster). Rows are a
    little less alike, so it errs to the safe side.

    Args:
        reference, recent: which rows are those of training, and which the live ones.
        classes: by class, which rows are of it.
    """
    counts, sums = [], []
    parameters = {**reference[1], **recent[1]}
    for i, (among, values) in enumerate(classes.values()):
        parameters.update(values)
        for side, rows in (("t", reference[0]), ("r", recent[0])):
            name = f"{side}{i}"
            counts.append(f"COUNTIF({among} AND {rows}) AS {name}")
            sums += [f"SUM({name}) AS {name}_rows", f"SUM({name} * {name}) AS {name}_squares"]
    among_any = " OR ".join(condition for condition, _ in classes.values())
    by_entity = (
        f"SELECT {', '.join(counts)} FROM {warehouse_table(contract).sql_name} "
        f"WHERE ({among_any}) AND ({reference[0]} OR {recent[0]}) AND {quoted(entity)} IS NOT NULL "
        f"GROUP BY {quoted(entity)}"
    )
    answer = warehouse.query(f"SELECT {', '.join(sums)} FROM ({by_entity}) AS by_entity", parameters)
    (found,) = answer.to_pylist()
    return {name: DesignEffect(_effect(found, f"t{i}"), _effect(found, f"r{i}")) for i, name in enumerate(classes)}


def _effect(found: Mapping[str, int | None], name: str) -> float:
    rows, squares = found[f"{name}_rows"], found[f"{name}_squares"]
    return squares / rows if rows and squares else 1.0
