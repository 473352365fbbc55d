"""From the step table to nested series and parallels, which is all that Cloud Workflows can run.

A step may start as soon as the steps before it are complete. Workflows has no such rule: it has sequences and
parallel branches. A table whose order is series-parallel is decomposed exactly, so nothing waits for a step that
it does not depend on; any other table is refused rather than slowed down in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.steps import Step
from pipeline.workflow.errors import InvalidOrder


@dataclass(frozen=True)
class Series:
    """Parts that run one after the other."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Parallel:
    """Parts that run side by side."""

    parts: tuple[Part, ...]


Part = Step | Series | Parallel


def order(steps: Iterable[Step]) -> Part:
    """The steps as nested series and parallels.

    Raises:
        InvalidOrder: a step comes after one that is not there or after itself, conditions read a step that is
            not before them, or the order is not series-parallel.
    """
    table = {step.name: step for step in steps}
    before = _ancestors(table)
    for step in table.values():
        if step.when is not None and step.when.step not in before[step.name]:
            raise InvalidOrder(
                f"its condition reads '{step.when.step}', which need not be complete by then",
                where=f"step '{step.name}'",
                mend=f"name '{step.when.step}' among the steps that come before it",
            )
    return _decompose(tuple(table), table, before)


def _ancestors(table: dict[str, Step]) -> dict[str, frozenset[str]]:
    before: dict[str, frozenset[str]] = {}

    def visit(name: str, path: tuple[str, ...]) -> frozenset[str]:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise InvalidOrder(
                "the steps wait for each other", where=circle, mend="remove one of the dependencies"
            )
        if name not in before:
            step = table[name]
            for earlier in step.after:
                if earlier not in table:
                    raise InvalidOrder(
                        f"it comes after '{earlier}', and there is no such step",
                        where=f"step '{name}'",
                        mend=f"name one of {', '.join(sorted(table))}",
                    )
            above = [visit(earlier, (*path, name)) for earlier in step.after]
            before[name] = frozenset(step.after).union(*above)
        return before[name]

    for name in table:
        visit(name, ())
    return before


def _decompose(names: tuple[str, ...], table: dict[str, Step], before: dict[str, frozenset[str]]) -> Part:
    if len(names) == 1:
        return table[names[0]]
    islands = _islands(names, before)
    if len(islands) > 1:
        return Parallel(tuple(_decompose(island, table, before) for island in islands))
    sections = _sections(names, before)
    if len(sections) == 1:
        raise InvalidOrder(
            "these steps are neither a sequence nor independent of one another",
            where=", ".join(names),
            mend="let the later ones come after all of the earlier ones",
        )
    return Series(tuple(_decompose(section, table, before) for section in sections))


def _islands(names: tuple[str, ...], before: dict[str, frozenset[str]]) -> list[tuple[str, ...]]:
    """The sets of steps that have no order between them."""
    islands: list[set[str]] = []
    for name in names:
        touched = [
            island for island in islands if any(other in before[name] or name in before[other] for other in island)
        ]
        islands = [island for island in islands if island not in touched]
        islands.append({name}.union(*touched))
    return [tuple(name for name in names if name in island) for island in islands]


def _sections(names: tuple[str, ...], before: dict[str, frozenset[str]]) -> list[tuple[str, ...]]:
    """Cuts a set where every later step comes after every earlier one."""
    here = set(names)
    ranked = sorted(names, key=lambda name: len(before[name] & here))
    sections: list[tuple[str, ...]] = []
    start = 0
    for cut in range(1, len(ranked) + 1):
        earlier, later = set(ranked[:cut]), ranked[cut:]
        if all(earlier <= before[name] for name in later):
            sections.append(tuple(name for name in names if name in ranked[start:cut]))
            start = cut
    return sections
