"""What is known of a contract's models: packages, the ledger of promotions, and both laid side by side."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from caudal.errors import NotFound, UsageError
from caudal.folders import is_committed
from caudal.identity import format_instant
from caudal.package.reader import ModelPackage, open_package
from caudal.promotions import Promotion, Promotions

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.storage import Storage

_COMPARED = ("snapshot", "trained", "judged", "unit", "parameters", "rounds", "threshold", "calibration", "type")


@dataclass(frozen=True)
class Reign:
    """A stretch of the data's time in which one model was the champion; `until` is None for the present one."""

    promotion: Promotion
    until: datetime | None

    def to_json(self) -> dict[str, Any]:
        return {**self.promotion.to_json(), "until": format_instant(self.until) if self.until else None}


class Registry:
    """The models of one contract in one environment."""

    def __init__(self, contract: Contract, environment: Environment, storage: Storage) -> None:
        self.contract = contract
        self._environment = environment
        self._storage = storage
        self.promotions = Promotions(storage, environment.ledger(contract.name, "promotions"))

    def versions(self) -> list[str]:
        """The versions of all whole packages."""
        names = self._storage.names(self._environment.packages(self.contract.name, self.contract.model.type))
        return [name for name in names if is_committed(self._storage, self._uri(name))]

    def open(self, version: str) -> ModelPackage:
        """The package with this version, or with the only version that begins so.

        Raises:
            NotFound: there is none.
            UsageError: several begin so.
        """
        known = self.versions()
        head, challenger = self.promotions.head(), self.promotions.challenger()
        named = {"champion": head, "challenger": challenger}
        if version in named:
            entry = named[version]
            if entry is None:
                name = self.contract.name
                mend = f"see `caudal models list {name}`; `caudal run {name}` makes one when enough labels are due"
                raise NotFound(f"there is no {version}", where=name, mend=mend)
            return open_package(self._storage, entry.package)
        found = [name for name in known if name.startswith(version)]
        if not found:
            close = difflib.get_close_matches(version, known, n=1)
            mend = f"did you mean {close[0]}?" if close else f"see `caudal models list {self.contract.name}`"
            raise NotFound(f"there is no model '{version}'", where=self.contract.name, mend=mend)
        if len(found) > 1:
            raise UsageError(f"several models begin with '{version}'", mend=f"write one of {', '.join(found)}")
        return open_package(self._storage, self._uri(found[0]))

    def listing(self) -> Iterator[dict[str, Any]]:
        """Every package with its part in the ledger, in the order in which they were trained."""
        packages = sorted(
            map(self.open, self.versions()), key=lambda p: (p.metadata["trained"]["until"], p.version)
        )
        for package in packages:
            yield {**self.brief(package), **self.standing(package.version)}

    def brief(self, package: ModelPackage) -> dict[str, Any]:
        """The facts by which one knows a model."""
        metadata = package.metadata
        metric = self.contract.gate.metric
        return {
            "version": package.version,
            "trained_from": metadata["trained"]["from"],
            "trained_until": metadata["trained"]["until"],
            "rows": metadata["trained"]["rows"],
            "metric": metric,
            "value": metadata["metrics"]["all"].get(metric, {}).get("value"),
            "snapshot": metadata["snapshot"],
        }

    def standing(self, version: str) -> dict[str, Any]:
        """What the ledger says of a version: champion, challenger, former champion, or nothing."""
        head, challenger = self.promotions.head(), self.promotions.challenger()
        entries = [entry for entry in self.promotions.history() if entry.version == version]
        if head is not None and head.version == version:
            role = "champion"
        elif challenger is not None and challenger.version == version:
            role = "challenger"
        else:
            role = "former" if any(entry.role == "champion" for entry in entries) else ""
        return {"role": role, "promotions": [entry.to_json() for entry in entries]}

    def reigns(self) -> list[Reign]:
        """Which model was the champion from when until when, oldest first."""
        champions = [entry for entry in self.promotions.history() if entry.role == "champion"]
        later = [*champions[1:], None]
        return [Reign(e, n.as_of if n else None) for e, n in zip(champions, later, strict=False)]

    def promote(self, version: str, *, as_of: datetime, by: str, reason: str, commit: str = "") -> Promotion:
        """Makes a packaged model the champion by a person's decision."""
        package = self.open(version)
        return self.promotions.promote(
            version=package.version,
            model_type=package.metadata["type"],
            package=package.uri,
            as_of=as_of,
            by=by,
            reason=reason,
            snapshot=package.metadata["snapshot"],
            evidence={"decided": "by hand"},
            commit=commit,
            request=f"hand {len(self.promotions.history())}",
        )

    def _uri(self, version: str) -> str:
        return self._environment.packages(self.contract.name, self.contract.model.type, version)


def differences(one: ModelPackage, two: ModelPackage) -> dict[str, Any]:
    """What differs between two models: `{"facts", "metrics", "contract"}`.

    Facts are pairs by dotted name, metrics are pairs, and the contract's text is a unified diff. Each model's
    metrics are those of its own judging rows, so they tell of both models and of both times.
    """
    first, second = (dict(_flat({k: p.metadata.get(k) for k in _COMPARED})) for p in (one, two))
    facts = {
        name: [first.get(name), second.get(name)]
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    }
    metrics = {}
    for name in sorted({*one.metadata["metrics"]["all"], *two.metadata["metrics"]["all"]}):
        pair = [p.metadata["metrics"]["all"].get(name, {}).get("value") for p in (one, two)]
        metrics[name] = pair
    text = difflib.unified_diff(
        one.contract.text.splitlines(), two.contract.text.splitlines(), one.version, two.version, lineterm="", n=2
    )
    return {"facts": facts, "metrics": metrics, "contract": list(text)}


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        if isinstance(inner, Mapping):
            yield from _flat(inner, here)
        else:
            yield here, inner
