"""What a provider answers when Terraform asks what a change would do: pure functions over plain values.

A value is what JSON has, or UNKNOWN: decided only when the change is made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.rehearsal.schema import Block, CtyType

Object = dict[str, Any]
Path = tuple[str | int, ...]


class Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()

# Facts that the bindings do not carry.
FROM_PROVIDER = frozenset({"project", "region", "zone"})
OPTIONAL_COMPUTED = FROM_PROVIDER | {"id", "location"}
FORCE_NEW = frozenset(
    {
        "account_id", "bucket", "database_version", "dataset_id", "instance", "location", "member", "name",
        "project", "region", "repository_id", "role", "secret_id", "service_account_id", "table_id", "topic_id",
        "workload_identity_pool_id", "workload_identity_pool_provider_id",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """An error with the path of the argument that it is about."""

    message: str
    path: Path = ()


def check(block: Block, config: Mapping[str, Any], path: Path = ()) -> Iterator[Finding]:
    """What the schema can't say to Terraform itself: read-only attributes, documented values."""
    for name, attribute in block.attributes.items():
        value = config.get(name)
        if attribute.mode == "computed" and value is not None:
            yield Finding(f'Value for unconfigurable attribute "{name}": the provider decides it', (*path, name))
        if attribute.values and isinstance(value, str) and value and value not in attribute.values:
            expected = ", ".join(attribute.values)
            yield Finding(f'expected {name} to be one of {expected}, got "{value}"', (*path, name))
    for name, nested in block.blocks.items():
        given = config.get(name)
        items: list[tuple[Path, Any]]
        if isinstance(given, list):
            in_set = nested.nesting == "SET"
            items = [((*path, name) if in_set else (*path, name, i), item) for i, item in enumerate(given)]
        else:
            items = [((*path, name), given)]
        for where, item in items:
            if isinstance(item, dict):
                yield from check(nested.block, item, where)


def planned_state(
    block: Block, config: Mapping[str, Any], prior: Mapping[str, Any] | None, provider: Mapping[str, Any]
) -> Object:
    """The state that a change leads to: what is configured, what was computed before, and what is yet unknown."""
    state = _planned(block, config, prior, provider, top=True, in_set=False)
    if "effective_labels" in state and config.get("labels") is not UNKNOWN:
        labels = {**(provider.get("default_labels") or {}), **(config.get("labels") or {})}
        state["effective_labels"] = state["terraform_labels"] = labels
    return state


def _planned(
    block: Block,
    config: Mapping[str, Any],
    prior: Mapping[str, Any] | None,
    provider: Mapping[str, Any],
    top: bool,
    in_set: bool,
) -> Object:
    state: Object = {}
    for name, attribute in block.attributes.items():
        given = config.get(name)
        also = attribute.also_computed
        if attribute.mode == "computed":
            computed = True
        else:
            computed = attribute.mode == "optional" and (
                top and name in OPTIONAL_COMPUTED if also is None else also
            )
        if given is not None or not computed:
            state[name] = given
        elif prior is not None:
            state[name] = prior.get(name)
        else:
            default = provider.get(name) if top and name in FROM_PROVIDER else None
            # A set's elements are known by their values: nothing in them may be unknown.
            state[name] = default if default is not None else None if in_set else UNKNOWN
    for name, nested in block.blocks.items():
        given, before = config.get(name), (prior or {}).get(name)
        within = in_set or nested.nesting == "SET"
        if isinstance(given, list):
            olds = before if isinstance(before, list) and not within else []
            state[name] = [
                _planned(nested.block, item, olds[i] if i < len(olds) else None, provider, False, within)
                if isinstance(item, dict)
                else item
                for i, item in enumerate(given)
            ]
        elif isinstance(given, dict):
            old = before if isinstance(before, dict) else None
            state[name] = _planned(nested.block, given, old, provider, False, in_set)
        else:
            state[name] = given
    return state


def replaced_by(planned: Mapping[str, Any], prior: Mapping[str, Any] | None) -> list[str]:
    """The arguments whose change asks for a new object in place of the old."""
    if not prior:
        return []
    return sorted(name for name in FORCE_NEW if name in planned and planned[name] != prior.get(name))


def filled(
    block: Block, state: Object, seed: str, special: Mapping[str, str], provider: Mapping[str, Any]
) -> Object:
    """The state with every unknown made known: by a template where one is known, else plausible and repeatable.

    Args:
        seed: decides the made-up values; the object's identity.
        special: templates of computed attributes, such as `{"url": "gs://{name}"}`.
    """
    digest = hashlib.sha256(seed.encode()).hexdigest()
    known = {**_texts(provider), **_texts(state), "hash": digest[:10], "digits": str(int(digest, 16))[:19]}
    state = dict(state)
    for name, template in special.items():
        if name in block.attributes and state.get(name) is UNKNOWN:
            state[name] = known[name] = re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], match[1]), template)
    for name, attribute in block.attributes.items():
        if state.get(name) is UNKNOWN:
            state[name] = seed if name == "id" else _made_up(attribute.type, name, seed)
    for name, nested in block.blocks.items():
        inner = state.get(name)
        if isinstance(inner, list):
            state[name] = [
                filled(nested.block, item, f"{seed}/{name}/{i}", {}, {}) if isinstance(item, dict) else item
                for i, item in enumerate(inner)
            ]
        elif isinstance(inner, dict):
            state[name] = filled(nested.block, inner, f"{seed}/{name}", {}, {})
    return state


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _made_up(kind: CtyType, name: str, seed: str) -> Any:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
    if kind == "string":
        if re.search(r"(_time|_timestamp)$|^(created|updated)$", name):
            return "2026-01-01T00:00:00Z"
        return f"https://www.googleapis.com/rehearsal/{seed}" if "link" in name else f"{name}-{digest[:8]}"
    if kind == "number":
        return int(digest[:5], 16)
    if kind == "bool":
        return False
    if kind == "dynamic":
        return ["string", f"{name}-{digest[:8]}"]
    if not isinstance(kind, list):
        return None
    if kind[0] == "object":
        return {member: _made_up(inner, member, f"{seed}/{name}") for member, inner in kind[1].items()}
    if kind[0] == "map":
        return {}
    listed = kind[0] == "list" and isinstance(kind[1], list) and kind[1][0] == "object"
    return [_made_up(kind[1], name, seed)] if listed else []
