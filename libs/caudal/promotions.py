"""The promotion ledger: what is live, since when, why, and on what evidence. Its head is the truth.

MLflow's aliases and a cloud registry follow it. A rollback is a further entry, so nothing is ever rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from caudal.errors import AlreadyExists, UsageError
from caudal.identity import SHORT, digest, format_instant, parse_instant
from caudal.ledger import Log
from caudal.storage import Storage

Role = Literal["champion", "challenger"]
Kind = Literal["promotion", "rollback"]

_ATTEMPTS = 20


@dataclass(frozen=True)
class Promotion:
    """One entry.

    Attributes:
        id: the identity of the act; the same act is never entered twice.
        version: the model's.
        package: URI of its package.
        as_of: the instant of the data's world from which it is live.
        at: when the entry was written, by the clock; for people, it decides nothing.
        by: who or what did it.
        evidence: what it rests on: the verdict for a promotion.
        commit: the code's git commit, for people.
        number: the position in the ledger, from 1.
    """

    id: str
    version: str
    model_type: str
    package: str
    as_of: datetime
    at: datetime
    by: str
    reason: str
    snapshot: str
    commit: str = ""
    role: Role = "champion"
    kind: Kind = "promotion"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0

    def to_json(self) -> dict[str, Any]:
        said = {**asdict(self), "as_of": format_instant(self.as_of), "at": format_instant(self.at)}
        del said["number"]
        return said

    @staticmethod
    def from_json(value: Mapping[str, Any], number: int) -> Promotion:
        times = {"as_of": parse_instant(value["as_of"]), "at": parse_instant(value["at"])}
        return Promotion(**{**value, **times, "number": number})


class Promotions:
    """The promotion ledger of one contract."""

    def __init__(self, storage: Storage, uri: str) -> None:
        self._log = Log(storage, uri)
        self._uri = uri

    def history(self) -> list[Promotion]:
        """Every entry, oldest first."""
        return [Promotion.from_json(entry, i) for i, entry in enumerate(self._log.entries(), start=1)]

    def head(self) -> Promotion | None:
        """The champion, or None while there is none."""
        return self.standing()[0]

    def challenger(self) -> Promotion | None:
        """The challenger, if one was named after the champion."""
        return self.standing()[1]

    def standing(self) -> tuple[Promotion | None, Promotion | None]:
        """The champion and the challenger, by one reading from the newest entry back to the champion's."""
        challenger = None
        for place, entry in enumerate(self._newest_first()):
            if entry.role == "champion":
                return entry, challenger
            if place == 0:
                challenger = entry
        return None, challenger

    def live_at(self, as_of: datetime) -> Promotion | None:
        """The champion for what first arrives at `as_of`: the last one promoted strictly before.

        The run of an as-of scores before it promotes, so a model is live only for later ones.
        """
        return self._last(lambda entry: entry.role == "champion" and entry.as_of < as_of)

    def challenger_at(self, as_of: datetime) -> Promotion | None:
        """The challenger that is on trial at `as_of`: the last entry strictly before, if it named one."""
        last = self._last(lambda entry: entry.as_of < as_of)
        return last if last is not None and last.role == "challenger" else None

    def promote(
        self,
        *,
        version: str,
        model_type: str,
        package: str,
        as_of: datetime,
        by: str,
        reason: str,
        snapshot: str,
        evidence: Mapping[str, Any] | None = None,
        commit: str = "",
        role: Role = "champion",
        kind: Kind = "promotion",
        request: str = "",
    ) -> Promotion:
        """Appends an entry, once.

        Args:
            request: what asks for it, such as a run's id. The same request for the same model enters nothing a
                second time, so a step that was killed can be repeated.
        """
        act = digest("promotion", version, format_instant(as_of), role, kind, request)[:SHORT]
        entry = Promotion(
            act, version, model_type, package, as_of, datetime.now(UTC), by, reason, snapshot, commit, role, kind,
            evidence or {},
        )  # fmt: skip
        for _ in range(_ATTEMPTS):
            history = self.history()
            for made in history:
                if made.id == act:
                    return made
            try:
                self._log.append(entry.to_json(), after=len(history))
            except AlreadyExists:
                continue
            return self.history()[len(history)]
        raise UsageError(
            "other writers kept appending to the ledger", where=self._uri, mend="call the command again"
        )

    def roll_back(self, *, as_of: datetime, by: str, reason: str, commit: str = "") -> Promotion:
        """Makes the champion before the present one live again.

        Going back twice goes further back: what a rollback left behind is not returned to.

        Raises:
            UsageError: there is no earlier champion.
        """
        lineage: list[Promotion] = []
        for entry in self.history():
            if entry.role != "champion":
                continue
            if entry.kind == "rollback":
                while lineage and lineage[-1].version != entry.version:
                    lineage.pop()
            elif not lineage or lineage[-1].version != entry.version:
                lineage.append(entry)
        if len(lineage) < 2:
            raise UsageError(
                "there is no earlier champion to go back to",
                where=self._uri,
                mend="promote a model by its version: `caudal models promote`",
            )
        left, back = lineage[-1], lineage[-2]
        return self.promote(
            version=back.version,
            model_type=back.model_type,
            package=back.package,
            as_of=as_of,
            by=by,
            reason=reason,
            snapshot=back.snapshot,
            evidence={"left": left.version, "promoted_by_entry": back.number},
            commit=commit,
            kind="rollback",
            request=str(len(self._log)),
        )

    def _last(self, wanted: Callable[[Promotion], bool]) -> Promotion | None:
        return next((entry for entry in self._newest_first() if wanted(entry)), None)

    def _newest_first(self) -> Iterator[Promotion]:
        return (Promotion.from_json(entry, number) for number, entry in self._log.newest_first())
