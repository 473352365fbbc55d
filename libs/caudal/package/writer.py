"""Writing a model package: every file first, then the manifest that makes it visible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from caudal.folders import FolderWriter, is_committed
from caudal.package.card import model_card
from caudal.package.encoder import Encoder
from caudal.package.reader import (
    BOOSTER,
    CARD,
    CONTRACT,
    ENCODER,
    EXAMPLE,
    METADATA,
    ONNX,
    PROFILE,
    ModelPackage,
    open_candidate,
    open_package,
)
from caudal.storage.port import to_json

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.storage import Storage


@dataclass(frozen=True)
class PackageContent:
    """What a package is made of.

    Attributes:
        onnx: None for a candidate that is only judged.
        metadata: see `caudal.package`; `version` is the package's identity.
    """

    contract: Contract
    booster: bytes
    onnx: bytes | None
    encoder: Encoder
    metadata: dict[str, Any]
    profile: dict[str, Any]


def write_package(storage: Storage, uri: str, content: PackageContent) -> ModelPackage:
    """Writes a package at the place that its version gives; one that is there already is left alone.

    Two writers of one version write equal bytes, so it does not matter whose are kept.
    """
    whole = content.onnx is not None
    if not is_committed(storage, uri):
        writer = FolderWriter(storage, uri)
        writer.add(BOOSTER, content.booster)
        writer.add(CONTRACT, content.contract.text.encode())
        writer.add(ENCODER, to_json(content.encoder.to_json()))
        writer.add(METADATA, to_json(content.metadata))
        writer.add(PROFILE, to_json(content.profile))
        writer.add(EXAMPLE, to_json(made_up_row(content.contract, content.profile)))
        if content.onnx is not None:
            writer.add(ONNX, content.onnx)
            writer.add(CARD, model_card(content.contract, content.metadata, content.profile).encode())
        writer.commit({"version": content.metadata["version"], "contract": content.contract.name})
    return open_package(storage, uri) if whole else open_candidate(storage, uri)


def made_up_row(contract: Contract, profile: dict[str, Any]) -> dict[str, Any]:
    """A row of typical values, each from the profile by itself: nobody's row."""
    row: dict[str, Any] = {}
    for feature in contract.model_features():
        seen = profile["features"].get(feature.name)
        if feature.kind == "text" or seen is None:
            row[feature.name] = "an example"
        elif seen["kind"] == "numeric":
            middle = _median(seen)
            whole = not feature.derived and contract.columns[feature.name].type == "integer"
            row[feature.name] = int(middle) if whole else middle
        elif seen["values"]:
            most = max(zip(seen["counts"], seen["values"], strict=False), key=lambda pair: pair[0])[1]
            row[feature.name] = most == "true" if feature.kind == "boolean" else most
        else:
            row[feature.name] = None
    return row


def _median(seen: Mapping[str, Any]) -> float:
    """The edge at which the bin begins that half of the rows end in: one of the quantiles; 0 without any row."""
    edges, counts = seen["edges"], seen["counts"]
    if not edges:
        return 0.0
    reached = next(i for i, upto in enumerate(accumulate(counts)) if 2 * upto >= sum(counts))
    return float(edges[max(reached - 1, 0)])
