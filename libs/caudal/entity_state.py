"""The published state of entities: for each, the window features of its latest row.

A server that has only an entity's key reads them from here. A row of the future is nobody's latest: events
count from when they happened. A publication is one committed folder with a Parquet file an entity (columns `key`,
`as_of` and the features), named by what it was made from; a log says which is newest. Publishing is repeatable:
the same commit publishes the same folder and is entered once.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any

from caudal.errors import AlreadyExists
from caudal.event_time import event_times, happened_by
from caudal.folders import FolderWriter, is_committed, open_folder
from caudal.identity import format_instant, parse_instant
from caudal.ledger import Log
from caudal.storage import Storage, join
from caudal.tables import warehouse_table

if TYPE_CHECKING:
    import pyarrow as pa

    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.warehouse import Warehouse


def entities(contract: Contract) -> dict[str, list[str]]:
    """The window features of each entity that the contract has windows for."""
    found: dict[str, list[str]] = {}
    for window in contract.features.windows:
        found.setdefault(window.entity, []).extend(window.feature_names())
    return found


def longest_reach(contract: Contract) -> timedelta:
    """How far back a window reaches: an entity without a row since then is as good as unknown."""
    return max(max(w.lengths) + (w.delay or timedelta()) for w in contract.features.windows)


def latest_rows_query(
    contract: Contract, entity: str, features: list[str], as_of: datetime
) -> tuple[str, dict[str, date | datetime]]:
    """SQL for each entity's features in its latest row that had happened by an as-of, in the order of keys.

    Of rows with equal time the greatest key decides.

    Returns:
        The query and its parameters.
    """
    # A server reads publications, and has nothing to read SQL with.
    from caudal.sql import quoted

    chosen = ", ".join(f"_w.{quoted(name)}" for name in features)
    # No column of a contract begins with an underscore, and no name with a dot is one of the result's.
    key, event, tie = (f"_w.{quoted(name)}" for name in (entity, contract.event_time, contract.key))
    happened, parameters = happened_by(contract, as_of, "as_of")
    query = (
        f"SELECT {key} AS `key`, {event} AS `as_of`, {chosen} FROM {warehouse_table(contract).sql_name} AS _w "
        f"WHERE {key} IS NOT NULL AND _w.`_event_date` >= @since AND {happened} "
        f"QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {event} DESC, {tie} DESC) = 1 "
        f"ORDER BY {key}"
    )
    since = (as_of - longest_reach(contract)).date() - timedelta(days=1)
    return query, {**parameters, "since": since}


class Publications:
    """The publications of one contract, oldest first."""

    def __init__(self, storage: Storage, environment: Environment, contract: Contract) -> None:
        self._storage = storage
        self._contract = contract
        self._folder = environment.states(contract.name)
        self._log = Log(storage, environment.states(contract.name, "log"))

    def __len__(self) -> int:
        return len(self._log)

    def publish(self, warehouse: Warehouse, commit: str, as_of: datetime) -> str | None:
        """Publishes the state after a commit of ETL, once.

        Args:
            commit: the identity of the commit.
            as_of: of the run.

        Returns:
            the URI of the folder, or None when the contract has no windows.
        """
        wanted = entities(self._contract)
        if not wanted:
            return None
        uri = join(self._folder, commit)
        if not is_committed(self._storage, uri):
            self._export(warehouse, wanted, commit, as_of)
        # The folder says how long the log was before it: its entry can't be among those. (Older ones don't.)
        before = int(open_folder(self._storage, uri).facts.get("after", 0))
        while True:
            later = self._log.entries(before)
            if any(entry["uri"] == uri for entry in later):
                return uri
            try:
                self._log.append({"uri": uri, "as_of": format_instant(as_of)}, after=before + len(later))
            except AlreadyExists:
                continue
            return uri

    def _export(self, warehouse: Warehouse, wanted: dict[str, list[str]], commit: str, as_of: datetime) -> None:
        writer = FolderWriter(self._storage, join(self._folder, commit))
        for entity, features in wanted.items():
            query, parameters = latest_rows_query(self._contract, entity, features, as_of)
            for part in warehouse.export(query, writer.reserve(entity), parameters):
                writer.added(f"{entity}/{part.rsplit('/', 1)[-1]}")
        facts = {"contract": self._contract.name, "commit": commit, "as_of": format_instant(as_of)}
        writer.commit({**facts, "after": len(self._log)})

    def newest(self) -> Publication | None:
        """The newest publication."""
        head = self._log.head()
        return None if head is None else Publication(self._storage, self._contract, head)


class Publication:
    """One publication.

    Attributes:
        as_of: of the run that published it.
    """

    def __init__(self, storage: Storage, contract: Contract, entry: dict[str, Any]) -> None:
        self.uri: str = entry["uri"]
        self.as_of = parse_instant(entry["as_of"])
        self._contract = contract
        self._folder = open_folder(storage, self.uri)

    def holds(self, entity: str) -> bool:
        """Whether it has such entities: the contract that it was made by may have had other windows."""
        return bool(self._parts(entity))

    def _parts(self, entity: str) -> list[str]:
        return [name for name in sorted(self._folder.entries) if name.startswith(f"{entity}/")]

    def table(self, entity: str) -> pa.Table:
        """The rows of one kind of entity: `key`, in order, `as_of` in UTC, and its features."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        parts = self._parts(entity)
        rows = pa.concat_tables([pq.read_table(BytesIO(self._folder.read(name))) for name in parts])
        moments = event_times(self._contract, rows.column("as_of"))
        return rows.set_column(rows.schema.get_field_index("as_of"), "as_of", moments)
