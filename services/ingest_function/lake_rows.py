"""From raw batches to rows of the lake: typed by the contract, with their lineage."""

from __future__ import annotations

import json
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from caudal.contract import Contract
from caudal.errors import UnreadableObject
from caudal.tables import lake_table
from ingest_function.conversion import as_text, convert
from ingest_function.records import RawBatch


class LakeRows:
    """Turns the raw batches of one object into rows of the lake."""

    def __init__(self, contract: Contract, uri: str, generation: str, load_id: str, landed_at: datetime) -> None:
        self._contract = contract
        self._constants = {
            "_source_uri": uri,
            "_source_generation": generation,
            "_load_id": load_id,
            "_ingested_at": landed_at,
        }
        self.schema = lake_table(contract).schema

    def convert(self, raw: RawBatch) -> pa.RecordBatch:
        """Types a batch.

        Raises:
            UnreadableObject: the file lacks the key or the event time, so none of its rows can be told apart; or
                it has values that can't be taken up at all.
        """
        try:
            return self._convert(raw)
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise UnreadableObject(
                f"its values can't be taken up: {error}", mend="land them in types that the contract knows"
            ) from error

    def _convert(self, raw: RawBatch) -> pa.RecordBatch:
        contract = self._contract
        values = raw.values
        names = set(values.schema.names)
        for needed in (contract.key, contract.event_time):
            if needed not in names:
                raise UnreadableObject(
                    f"the file has no column '{needed}'; it has {', '.join(sorted(names)) or 'none'}",
                    mend=f"check the header and the delimiter against {contract.where('columns', needed)}",
                )
        columns: dict[str, pa.Array] = {}
        unparsed: dict[str, pa.Array] = {
            name: as_text(values.column(name)) for name in values.schema.names if name not in contract.columns
        }
        for name, column in contract.columns.items():
            if name not in names:
                columns[name] = pa.nulls(values.num_rows, self.schema.field(name).type)
                continue
            came = values.column(name)
            columns[name] = convert(came, column.type, contract.zone, contract.source.csv.decimal)
            lost = pc.and_(pc.is_null(columns[name]), pc.is_valid(came))
            if pc.any(lost).as_py():
                unparsed[name] = pc.if_else(lost, as_text(came), None)
        columns["_unparsed"] = _as_json(unparsed, values.num_rows)
        columns["_row"] = pa.array(raw.rows, pa.int64())
        for name, value in self._constants.items():
            columns[name] = pa.repeat(pa.scalar(value, self.schema.field(name).type), values.num_rows)
        return pa.RecordBatch.from_arrays([columns[field.name] for field in self.schema], schema=self.schema)


def _as_json(texts: dict[str, pa.Array], rows: int) -> pa.Array:
    """One JSON object a row with what could not be taken up; null for a row with nothing of it."""
    present = {name: column for name, column in texts.items() if column.null_count < len(column)}
    if not present:
        return pa.nulls(rows, pa.string())
    records = pa.RecordBatch.from_arrays(list(present.values()), list(present)).to_pylist()
    found = [{name: text for name, text in record.items() if text is not None} for record in records]
    return pa.array(
        [json.dumps(record, ensure_ascii=False, sort_keys=True) if record else None for record in found],
        pa.string(),
    )
