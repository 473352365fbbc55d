"""What the tests of the infrastructure share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
ENVIRONMENTS = ("dev", "staging", "prod")

Stacks = dict[str, dict[str, Any]]


def read_stacks(output: Path) -> Stacks:
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(output.glob("stacks/*/cdk.tf.json"))}


def resources(stacks: Stacks, kind: str) -> dict[str, dict[str, Any]]:
    """The resources of a type, by `<stack>/<name>`."""
    return {
        f"{stack}/{name}": resource
        for stack, document in stacks.items()
        for name, resource in document.get("resource", {}).get(kind, {}).items()
    }
