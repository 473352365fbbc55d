"""The ingest step: one call takes landed objects up to a budget, and says whether more remain."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import pyarrow.parquet as pq

from caudal.errors import NotFound, UnreadableObject
from caudal.identity import format_instant, load_id, manifest_id
from caudal.ledger import LoadLedger
from caudal.step import StepContext, StepResult
from caudal.storage import StoredObject, join
from caudal.tables import lake_table
from ingest_function.lake_rows import LakeRows
from ingest_function.reading import read_batches
from ingest_function.staging import BrokenRecords, RowGroups


@dataclass(frozen=True)
class _Landed:
    """A landed object that no manifest covers."""

    load_id: str
    object: StoredObject


def ingest(context: StepContext) -> StepResult:
    """Takes landed objects into the lake, each once.

    Objects are staged as Parquet one after another until the budget of bytes or time is spent. Those staged form
    one manifest, which is loaded as one job under its id. A call that is killed leaves either nothing, or an
    intent that the next call finishes.

    Returns:
        `done` when nothing remains, `remaining` objects, and the sums over all calls of this run: `rows` in the
        lake, `quarantined` records, `files_quarantined`, and the `loads` taken up.
    """
    ledger = LoadLedger(context.storage, context.environment.ledger(context.contract.name, "loads"))
    for manifest, intent in ledger.begun().items():
        _load(context, ledger, manifest, intent)
    pending = _pending(context, ledger)
    staged = _stage_within_budget(context, pending)
    if staged:
        manifest = manifest_id(load["load_id"] for load in staged)
        intent = {"manifest": manifest, "run": context.run.id, "loads": staged}
        _load(context, ledger, manifest, ledger.begin(manifest, intent))
    remaining = len(pending) - len(staged)
    return {"done": remaining == 0, "remaining": remaining, **_totals(ledger.done(), context.run.id)}


def _pending(context: StepContext, ledger: LoadLedger) -> list[_Landed]:
    taken = {load["load_id"] for record in ledger.done() for load in record["loads"]}
    pattern = context.contract.source.files
    landed = []
    for found in context.storage.objects(context.environment.landing(context.contract.name)):
        if fnmatch(found.name.rsplit("/", 1)[-1], pattern):
            identity = load_id(found.bucket, found.name, found.generation)
            if identity not in taken:
                landed.append(_Landed(identity, found))
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
    uri = context.environment.staging(context.contract.name, "lake", f"{landed.load_id}.parquet")
    records = _quarantine_uri(context, landed, "records.ndjson")
    unreadable: UnreadableObject | None = None
    try:
        if found.size > largest:
            raise UnreadableObject(
                f"the file has {found.size:,} bytes, and one call can take {largest:,}",
                where=found.name,
                mend="split it, or raise ingest.largest_object_bytes in the environment",
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


def _load(context: StepContext, ledger: LoadLedger, manifest: str, intent: dict[str, Any]) -> None:
    """Loads a manifest under its id, and records that it is done."""
    table = lake_table(context.contract)
    staged = [load["staged"] for load in intent["loads"] if load["staged"]]
    rows = context.warehouse.load(table, staged, manifest).rows if staged else 0
    ledger.finish(manifest, {**intent, "rows": rows})
    for uri in staged:
        context.storage.delete(uri)


def _totals(done: Iterable[dict[str, Any]], run: str) -> dict[str, Any]:
    loads = [load for record in done if record["run"] == run for load in record["loads"]]
    return {
        "rows": sum(load["rows"] for load in loads),
        "quarantined": sum(load["quarantined"] for load in loads),
        "files_quarantined": sum(load["unreadable"] is not None for load in loads),
        "loads": len(loads),
    }
