"""The order of steps as nested series and parallels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.steps import STEPS, Condition, Step
from pipeline.workflow.errors import InvalidOrder
from pipeline.workflow.order import Parallel, Part, Series, order


def step(name: str, *after: str, when: Condition | None = None) -> Step:
    return Step(name, "monitor", "", after, when)


def text(part: Part) -> str:
    """`(a b)` in turn, `[a b]` side by side."""
    if isinstance(part, Step):
        return part.name
    inner = " ".join(map(text, part.parts))
    return f"({inner})" if isinstance(part, Series) else f"[{inner}]"


def test_the_pipelines_own_table_scores_beside_watching_inputs() -> None:
    assert text(order(STEPS)) == "(ingest etl [score inputs] outcomes snapshot train validate promote)"


def test_chains_side_by_side_do_not_wait_for_each_other() -> None:
    table = [step("a"), step("b", "a"), step("c", "a"), step("b2", "b"), step("end", "b2", "c")]
    assert text(order(table)) == "(a [c (b b2)] end)"


def test_an_order_that_would_make_a_step_wait_too_long_is_refused() -> None:
    # c waits for a alone and d for both: no nesting says that.
    with pytest.raises(InvalidOrder, match="neither a sequence nor independent"):
        order([step("a"), step("b"), step("c", "a"), step("d", "a", "b")])


def test_a_circle_is_named() -> None:
    with pytest.raises(InvalidOrder, match=r"a -> b -> a"):
        order([step("a", "b"), step("b", "a")])


def test_a_step_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidOrder, match="comes after 'x'"):
        order([step("a", "x")])


def test_a_condition_reads_only_what_is_complete() -> None:
    with pytest.raises(InvalidOrder, match="reads 'a'"):
        order([step("a"), step("b", when=Condition("a", "passed", True))])


@st.composite
def nestings(draw: st.DrawFn) -> list[Step]:
    """A table made from a random nesting, so it has one."""
    steps: list[Step] = []

    def grow(size: int, after: tuple[str, ...]) -> tuple[str, ...]:
        if size == 1:
            name = f"s{len(steps)}"
            steps.append(step(name, *after))
            return (name,)
        cut = draw(st.integers(1, size - 1))
        if draw(st.booleans()):
            return grow(size - cut, grow(cut, after))
        return grow(cut, after) + grow(size - cut, after)

    grow(draw(st.integers(1, 9)), ())
    return steps


@given(nestings(), st.randoms(use_true_random=False))
def test_exactly_the_tables_order_is_kept_however_it_is_written(table: list[Step], random: object) -> None:
    shuffled = list(table)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before: dict[str, set[str]] = {}
    for s in table:
        before[s.name] = set(s.after).union(*(before[a] for a in s.after))

    def pairs(part: Part) -> tuple[set[str], set[tuple[str, str]]]:
        """The steps of a part, and which of them the nesting runs before which."""
        if isinstance(part, Step):
            return {part.name}, set()
        names: set[str] = set()
        ordered: set[tuple[str, str]] = set()
        for inner in part.parts:
            inner_names, inner_pairs = pairs(inner)
            if isinstance(part, Series):
                ordered |= {(a, b) for a in names for b in inner_names}
            names |= inner_names
            ordered |= inner_pairs
        return names, ordered

    names, ordered = pairs(order(shuffled))
    assert names == set(before)
    assert ordered == {(a, b) for b in before for a in before[b]}


def test_parallel_parts_are_parallel() -> None:
    assert isinstance(order([step("a"), step("b")]), Parallel)
