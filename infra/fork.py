"""Synthesizes the same stacks under CDKTF's maintained fork: `python -m infra.fork`.

CDKTF was archived in December 2025; its fork, cdktn, goes on with the same constructs, addresses and states under
another import name. Here that name is the only thing that changes, so the day on which Caudal moves is a day of
renaming imports. It has an environment of its own (requirements/cdktn.txt); `make synth-cdktn` compares the two.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from infra.cdk import BINDING, import_lazily

FORK = "cdktn"
FORKED_BINDING = "cdktn_provider_google"


def use_fork() -> None:
    """Lets the fork answer to CDKTF's names; before anything imports CDKTF."""
    sys.modules["cdktf"] = importlib.import_module(FORK)
    import_lazily(BINDING, FORKED_BINDING)


def differences(ours: Path, forks: Path) -> list[str]:
    """The resources, arguments and backends in which two folders of stacks differ."""
    found = []
    names = {folder.name for output in (ours, forks) for folder in (output / "stacks").iterdir()}
    for stack in sorted(names):
        first, second = (_flat(_document(output, stack)) for output in (ours, forks))
        found += [
            f"{stack}: {path} is {first.get(path)!r} and {second.get(path)!r}"
            for path in sorted(first.keys() | second.keys())
            if first.get(path) != second.get(path)
        ]
    return found


def _document(output: Path, stack: str) -> Any:
    file = output / "stacks" / stack / "cdk.tf.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path, without CDKTF's own notes ("//"), which hold its version."""
    if isinstance(value, dict):
        return {
            k: v for key, inner in value.items() if key != "//" for k, v in _flat(inner, f"{path}/{key}").items()
        }
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in _flat(inner, f"{path}/{i}").items()}
    # Terraform reads a provider's address without a namespace as HashiCorp's.
    if path.endswith("/required_providers/google/source"):
        value = f"hashicorp/{value}" if "/" not in value else value
    return {path: value}


def main(argv: list[str]) -> int:
    """Synthesizes under the fork; with a folder, compares with what CDKTF made there."""
    use_fork()
    from infra.environments import load_deployment
    from infra.main import synthesize

    deployment = load_deployment()
    output = Path("cdktf.out") / f"{deployment.name}-{FORK}"
    synthesize(deployment, output)
    if not argv:
        return 0
    found = differences(Path(argv[0]), output)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{FORK}: {len(found)} differences from cdktf in {deployment.name}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
