"""The ingest step: one call takes landed objects up to a budget, and says whether more remain."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import pyarrow.parquet as pq

from caudal.errors import AlreadyExists, NotFound, RowsRefused, TableMismatch, UnreadableObject
from caudal.identity import format_instant, load_id, manifest_id
from caudal.ledger import LoadLedger, Manifests
from caudal.step import StepContext, StepResult
from caudal.storage import StoredObject, join
from caudal.tables import lake_table
from ingest_function.lake_rows import LakeRows
from ingest_function.reading import read_batches
from ingest_function.staging import BrokenRecords, RowGroups

log = logging.getLogger(__name__)

REFUSALS = 2
"""So often the warehouse refuses an object's rows, the last time alone, before the object goes to quarantine."""


@dataclass(frozen=True)
class _Landed:
    """A landed object that no manifest covers.

    Attributes:
        refused: the reasons for which the warehouse refused manifests that held it.
    """

    load_id: str
    object: StoredObject
    refused: tuple[str, ...] = ()


def ingest(context: StepContext) -> StepResult:
    """Takes landed objects into the lake, each once.

    Objects are staged as Parquet one after another until the budget of bytes or time is spent. Those staged form
    one manifest, which is entered in the ledger and loaded as one job under its id. A call that is killed leaves
    either nothing, or an intent that the next call finishes. Calls may overlap: of what one has entered, the other
    only makes sure that it is loaded.

    A manifest whose rows the warehouse refuses is given up, and its objects are loaded one by one; one that is
    refused again goes to quarantine, so nothing stops the others.

    Returns:
        `done` when nothing remains, `remaining` objects, and the sums over all calls of this run: `rows` in the
        lake, `quarantined` records, `files_quarantined`, and the `loads` taken up.
    """
    ledger = LoadLedger(context.storage, context.environment.ledger(context.contract.name, "loads"))
    pending = _pending(context, _all_settled(context, ledger))
    _enter(context, ledger, _stage_within_budget(context, pending))
    known = _all_settled(context, ledger)
    ledger.close()
    taken = known.taken()
    remaining = sum(landed.load_id not in taken for landed in pending)
    return {"done": remaining == 0, "remaining": remaining, **_totals(known.done(), context.run.id)}


def _all_settled(context: StepContext, ledger: LoadLedger) -> Manifests:
    """Loads what this or another call has begun, until nothing is left of it."""
    while (known := ledger.look()).begun:
        for number, intent in known.begun.items():
            _load(context, ledger, number, intent)
    return known


def _pending(context: StepContext, known: Manifests) -> list[_Landed]:
    taken, refusals = known.taken(), known.refusals()
    pattern = context.contract.source.files
    landed = []
    for found in context.storage.objects(context.environment.landing(context.contract.name)):
        if fnmatch(found.name.rsplit("/", 1)[-1], pattern):
            identity = load_id(found.bucket, found.name, found.generation)
            if identity not in taken:
                landed.append(_Landed(identity, found, tuple(refusals.get(identity, ()))))
    return landed


def _stage_within_budget(context: StepContext, pending: list[_Landed]) -> list[dict[str, Any]]:
    budget = context.environment.ingest
    # The clock bounds the work of one call; it decides nothing about the data.
    deadline = time.monotonic() + budget.budget_time.total_seconds()
    staged: list[dict[str, Any]] = []
    spent = 0
    for landed in pending:
        if spent and (spent + landed.object.size > budget.budget_bytes or time.monotonic() > deadline):
            break
        entry = _stage(context, landed)
        if entry is not None:
            staged.append(entry)
        spent += landed.object.size
    return staged


def _stage(context: StepContext, landed: _Landed) -> dict[str, Any] | None:
    """Writes an object's rows as Parquet, or the object into quarantine; returns the manifest's entry.

    Returns:
        None when the object was replaced or deleted since it was listed: what was read may be of another
        generation. It is left to the next call, which finds what is there then.
    """
    found = landed.object
    entry: dict[str, Any] = {
        "load_id": landed.load_id,
        "uri": found.uri,
        "bucket": found.bucket,
        "name": found.name,
        "generation": found.generation,
        "landed_at": format_instant(found.landed_at),
    }
    largest = context.environment.ingest.largest_object_bytes
    # Another call may stage the same object: each file has one owner, who may delete it.
    name = f"{landed.load_id}-{uuid.uuid4().hex}.parquet"
    uri = context.environment.staging(context.contract.name, "lake", name)
    records = _quarantine_uri(context, landed, "records.ndjson")
    unreadable: UnreadableObject | None = None
    try:
        if found.size > largest:
            raise UnreadableObject(
                f"the file has {found.size:,} bytes, and one call can take {largest:,}",
                where=found.name,
                mend="split it, or raise ingest.largest_object_bytes in the environment",
            )
        if len(landed.refused) >= REFUSALS:
            raise UnreadableObject(
                f"the warehouse refuses its rows: {landed.refused[-1]}",
                where=found.name,
                mend="correct the values, and land it again",
            )
        rows, broken = _write_parquet(context, landed, uri, records)
    except UnreadableObject as error:
        unreadable = error
    except NotFound:
        return None
    if not _unchanged(context, found):
        context.storage.delete(uri)
        context.storage.delete(records)
        return None
    if unreadable is not None:
        _quarantine_whole(context, landed, unreadable)
        return {**entry, "staged": None, "rows": 0, "quarantined": 0, "unreadable": unreadable.what}
    return {**entry, "staged": uri, "rows": rows, "quarantined": broken, "unreadable": None}


def _unchanged(context: StepContext, found: StoredObject) -> bool:
    try:
        return context.storage.describe(found.uri).generation == found.generation
    except NotFound:
        return False


def _write_parquet(context: StepContext, landed: _Landed, uri: str, records: str) -> tuple[int, int]:
    """Writes an object's rows to one URI and its broken records to another; returns how many there are of each."""
    found = landed.object
    conversion = LakeRows(context.contract, found.uri, found.generation, landed.load_id, found.landed_at)
    with (
        context.storage.open(found.uri) as source,
        context.storage.writer(uri) as target,
        pq.ParquetWriter(target, conversion.schema, compression="zstd") as writer,
        RowGroups(writer) as groups,
        BrokenRecords(context.storage, records) as aside,
    ):
        for raw in read_batches(source, found.name, context.contract, aside.add):
            groups.add(conversion.convert(raw))
    return groups.rows, aside.count


def _quarantine_whole(context: StepContext, landed: _Landed, error: UnreadableObject) -> None:
    found = landed.object
    name = found.name.rsplit("/", 1)[-1]
    if found.size <= context.environment.ingest.largest_object_bytes:
        with (
            context.storage.open(found.uri) as source,
            context.storage.writer(_quarantine_uri(context, landed, name)) as target,
        ):
            while block := source.read(1 << 20):
                target.write(block)
    reason = {"uri": found.uri, "generation": found.generation, "reason": error.what, "mend": error.mend}
    context.storage.write_json(_quarantine_uri(context, landed, "reason.json"), reason)


def _quarantine_uri(context: StepContext, landed: _Landed, name: str) -> str:
    return join(context.environment.quarantine(context.contract.name, landed.load_id), name)


def _enter(context: StepContext, ledger: LoadLedger, staged: list[dict[str, Any]]) -> None:
    """Enters what is staged as manifests, and loads them; what another call entered meanwhile is left to it."""
    waiting = staged
    while waiting:
        known = ledger.look()
        taken, suspects = known.taken(), known.refusals().keys()
        _delete_staged(context, [load for load in waiting if load["load_id"] in taken])
        waiting = [load for load in waiting if load["load_id"] not in taken]
        # One that was in a refused manifest makes a manifest alone; quarantined, it brings no rows.
        together = [load for load in waiting if not load["staged"] or load["load_id"] not in suspects]
        loads = together or waiting[:1]
        if not loads:
            return
        manifest = manifest_id(load["load_id"] for load in loads)
        intent = {"manifest": manifest, "run": context.run.id, "loads": loads}
        try:
            number = ledger.begin(intent, after=known.entered)
        except AlreadyExists:
            continue
        _load(context, ledger, number, intent)
        entered = {load["load_id"] for load in loads}
        waiting = [load for load in waiting if load["load_id"] not in entered]


def _load(context: StepContext, ledger: LoadLedger, number: int, intent: dict[str, Any]) -> None:
    """Loads a manifest, and records what became of it: its rows are in the lake, or it is given up for good."""
    table = lake_table(context.contract)
    staged = [load["staged"] for load in intent["loads"] if load["staged"]]
    # A manifest that was given up may be entered again: the number tells the two apart.
    identity = f"{intent['manifest']}-{number}"
    rows, reason, refused = 0, "an earlier call gave it up", False
    if staged:
        try:
            rows = context.warehouse.load(table, staged, identity).rows
        except (RowsRefused, TableMismatch, NotFound) as error:
            # Where the table itself is not as the contract asks, that is what a person must mend.
            context.warehouse.ensure_tables([table])
            # A load of nothing takes the id, so nobody who is late can load these files any more; unless somebody
            # has just done it, and this tells how many rows they were.
            rows = context.warehouse.load(table, (), identity).rows
            reason, refused = error.what, isinstance(error, RowsRefused)
    outcome = {**intent, "rows": rows}
    if rows < sum(load["rows"] for load in intent["loads"]):
        outcome |= {"abandoned": reason, "refused": refused}
        log.error(
            "manifest %s is given up, and its %d objects are staged anew: %s",
            identity,
            len(intent["loads"]),
            reason,
        )
    ledger.settle(number, outcome)
    _delete_staged(context, intent["loads"])


def _delete_staged(context: StepContext, loads: Iterable[dict[str, Any]]) -> None:
    for load in loads:
        if load["staged"]:
            context.storage.delete(load["staged"])


def _totals(done: Iterable[dict[str, Any]], run: str) -> dict[str, Any]:
    loads = [load for record in done if record["run"] == run for load in record["loads"]]
    return {
        "rows": sum(load["rows"] for load in loads),
        "quarantined": sum(load["quarantined"] for load in loads),
        "files_quarantined": sum(load["unreadable"] is not None for load in loads),
        "loads": len(loads),
    }
