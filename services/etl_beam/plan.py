"""Which loads a run transforms, fixed once: every attempt of the run works on the same.

The plan is written into the run's folder before the pipeline starts, under the identity of the commit it leads to:

    <run>/etl/<commit>/plan.json     what is read
    <run>/etl/<commit>/result.json   what came of it, written just before the commit

An attempt that finds its commit made returns the recorded result; otherwise it follows the recorded plan, as long
as the warehouse is as the plan found it. Once another run has committed, a new plan is made, which may be empty.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from caudal.errors import AlreadyExists, NotFound
from caudal.identity import SHORT, digest, format_instant, parse_instant
from caudal.ledger import LoadLedger
from caudal.step import Run, StepContext
from caudal.storage import Storage, join
from caudal.storage.port import to_json
from caudal.tables import covered_table


@dataclass(frozen=True)
class Load:
    """One landed object, as the ledger records it."""

    load_id: str
    uri: str
    generation: str
    landed_at: str


@dataclass(frozen=True)
class Plan:
    """What one run transforms.

    Attributes:
        commit: the identity of the commit, which follows from the loads and the as-of that new keys are given.
        after: ids of the commits that cover loads, sorted: what this one is worked out from.
        as_of: of the run.
        new: ids of the loads whose rows are the lake's gain, sorted.
        new_rows: the rows that they hold.
        superseded: ids of the loads that a newer generation of their object has replaced.
        displaced: ids of the covered loads that one of the new loads supersedes.
        loads: every load that is done, by URI and generation; a row in flight carries its load as an index here.
        all_rows: the rows of all those loads, an upper bound on what a run can read.
        rows_digests: what the rows are made by, `Contract.rows_digests` as JSON.
        rebuilt: the parts of the contract that are not as they were at the last commit. If there are any, every
            load is new, and all rows of the contract's tables are replaced.
    """

    commit: str
    after: tuple[str, ...]
    as_of: str
    new: tuple[str, ...]
    new_rows: int
    superseded: tuple[str, ...]
    displaced: tuple[str, ...]
    loads: tuple[Load, ...]
    all_rows: int
    rows_digests: str = ""
    rebuilt: tuple[str, ...] = ()

    @property
    def first_run(self) -> bool:
        """Whether there is nothing to compare the gain with: the warehouse is empty, or rebuilt."""
        return not self.after or bool(self.rebuilt)

    def landed(self, load_ids: Iterable[str]) -> tuple[datetime, datetime]:
        """The earliest and the latest landing of some loads, of which there is one at least."""
        landings = [parse_instant(self._landings[load_id]) for load_id in load_ids]
        return min(landings), max(landings)

    @cached_property
    def _landings(self) -> dict[str, str]:
        return {load.load_id: load.landed_at for load in self.loads}

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Plan:
        names = ("after", "new", "superseded", "displaced", "rebuilt")
        return Plan(
            **{
                **value,
                # A plan of before 2026-11-26 says neither after what it comes nor what was rebuilt.
                **{name: tuple(value.get(name, ())) for name in names},
                "loads": tuple(Load(**load) for load in value["loads"]),
            }
        )


def folder(run: Run, commit: str, *parts: str) -> str:
    """Where a run keeps what leads to a commit."""
    return join(run.uri, "etl", commit, *parts)


def recorded_result(context: StepContext, plan: Plan) -> dict[str, Any] | None:
    """What the run has come to, when it has made its commit."""
    if not _committed(context, plan.commit, _covered(context)):
        return None
    result: dict[str, Any] = context.storage.read_json(_result_uri(context, plan.commit))
    return result


def fix_plan(context: StepContext) -> Plan:
    """The plan that this run follows: the one that an earlier attempt recorded, or else a new one.

    A recorded plan counts when this run has made its commit, or still can.
    """
    covered = _covered(context)
    after, changed = _commits(covered), _changed_parts(context)
    for commit in context.storage.names(join(context.run.uri, "etl")):
        plan = _read(context.storage, folder(context.run, commit, "plan.json"))
        if plan is not None and (_committed(context, commit, covered) or _holds(plan, after, context)):
            return plan
    plan = make_plan(
        LoadLedger(context.storage, context.environment.ledger(context.contract.name, "loads")).done(),
        covered,
        changed,
        context,
    )
    uri = folder(context.run, plan.commit, "plan.json")
    try:
        context.storage.create(uri, to_json(plan.to_json()))
    except AlreadyExists:
        return Plan.from_json(context.storage.read_json(uri))
    return plan


def make_plan(
    done: Iterable[Mapping[str, Any]], covered: Mapping[str, str], changed: tuple[str, ...], context: StepContext
) -> Plan:
    """The plan that the ledger's records and the covered loads lead to.

    Rows that were made by another contract don't fit those of this one: when a part of it has changed, the tables
    are made anew from all loads.

    Of the generations of one object the latest landed counts, and of those the greatest generation. An object
    that could not be read at all supersedes nothing: bad input never loses good input.

    Raises:
        NotFound: rows must be made anew whose loads the ledger doesn't have.
    """
    loads = {load["load_id"]: load for record in done for load in record["loads"]}
    newest: dict[tuple[str, str], str] = {}
    for load_id, load in loads.items():
        name = (load["bucket"], load["name"])
        if not load.get("unreadable") and (name not in newest or _age(load) > _age(loads[newest[name]])):
            newest[name] = load_id
    superseder = {
        load_id: newest[name]
        for load_id, load in loads.items()
        if (name := (load["bucket"], load["name"])) in newest and newest[name] != load_id
    }
    after = _commits(covered)
    # A contract that is changed back leads to another commit than it did the first time.
    replaced = after if changed else ()
    if changed:
        lost = sorted(covered.keys() - loads.keys())
        if lost:
            raise unknown_to_the_ledger(context.contract.name, lost)
        covered = {}
    new = tuple(sorted(loads.keys() - covered.keys()))
    rows_digests = _rows_digests(context)
    return Plan(
        commit=digest(
            "commit", context.contract.name, format_instant(context.run.as_of), rows_digests, replaced, new
        )[:SHORT],
        after=after,
        as_of=format_instant(context.run.as_of),
        new=new,
        new_rows=sum(loads[load_id]["rows"] for load_id in new),
        superseded=tuple(sorted(superseder)),
        displaced=tuple(sorted(old for old, by in superseder.items() if old in covered and by not in covered)),
        loads=tuple(
            sorted(
                (Load(i, load["uri"], load["generation"], load["landed_at"]) for i, load in loads.items()),
                key=lambda load: (load.uri, load.generation, load.load_id),
            )
        ),
        all_rows=sum(load["rows"] for load in loads.values()),
        rows_digests=rows_digests,
        rebuilt=changed,
    )


def _holds(plan: Plan, after: tuple[str, ...], context: StepContext) -> bool:
    """Whether a recorded plan is still one for the warehouse as it is, and for the contract as it is."""
    return plan.after == after and plan.rows_digests == _rows_digests(context)


def _rows_digests(context: StepContext) -> str:
    return json.dumps(context.contract.rows_digests(), sort_keys=True)


def _changed_parts(context: StepContext) -> tuple[str, ...]:
    """The parts of the contract by which not all rows of its tables were made; none while there are no rows."""
    found = context.warehouse.query(
        f"SELECT DISTINCT rows_digests FROM {covered_table().sql_name} WHERE contract = @contract",
        {"contract": context.contract.name},
    )
    now = context.contract.rows_digests()
    recorded = [json.loads(text or "{}") for text in found["rows_digests"].to_pylist()]
    return tuple(
        sorted({name for then in recorded for name in then.keys() | now.keys() if then.get(name) != now.get(name)})
    )


def unknown_to_the_ledger(contract: str, load_ids: Sequence[str]) -> NotFound:
    """The error for rows of the warehouse whose loads the ledger has lost."""
    return NotFound(
        f"rows name loads that the ledger does not know: {', '.join(load_ids[:3])}",
        where=contract,
        mend="restore the ledger from its backup; it is the record of what was loaded",
    )


def _age(load: Mapping[str, Any]) -> tuple[datetime, str]:
    return parse_instant(load["landed_at"]), load["generation"]


def _read(storage: Storage, uri: str) -> Plan | None:
    return Plan.from_json(storage.read_json(uri)) if storage.exists(uri) else None


def _result_uri(context: StepContext, commit: str) -> str:
    return folder(context.run, commit, "result.json")


def _committed(context: StepContext, commit: str, covered: Mapping[str, str]) -> bool:
    """Whether this run made a commit. Until 2026-11-26 two runs could share one, and only one has its result."""
    return commit in covered.values() and context.storage.exists(_result_uri(context, commit))


def _commits(covered: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(set(covered.values())))


def _covered(context: StepContext) -> dict[str, str]:
    """The commit that covers each load of the contract."""
    found = context.warehouse.query(
        f"SELECT load_id, commit_id FROM {covered_table().sql_name} WHERE contract = @contract",
        {"contract": context.contract.name},
    )
    return dict(zip(found["load_id"].to_pylist(), found["commit_id"].to_pylist(), strict=True))
