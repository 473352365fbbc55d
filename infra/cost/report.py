"""An estimate of an environment by its name, and how it is shown."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infra.cost.estimate import Estimate, estimate
from infra.cost.prices import load_prices
from infra.environments import load_deployment
from infra.main import UNITS, synthesize
from infra.release import Release


def estimate_environment(name: str, root: Path) -> Estimate:
    """Synthesizes an environment aside and estimates its month."""
    # What is deployed by which digest costs the same.
    release = Release(release=1, commit="none", units=dict.fromkeys(UNITS, "sha256:" + "0" * 64))
    deployment = replace(load_deployment(name, root), release=release)
    with tempfile.TemporaryDirectory(prefix="caudal-cost-") as folder:
        output = Path(folder)
        synthesize(deployment, output)
        stacks = {file.parent.name: json.loads(file.read_text()) for file in output.glob("stacks/*/cdk.tf.json")}
    return estimate(name, deployment.cloud, stacks, load_prices())


def as_json(found: Estimate) -> dict[str, Any]:
    """The estimate for machines."""
    return {**asdict(found), "idle": found.idle, "running": found.running, "exceeded": found.exceeded}


def as_markdown(found: Estimate) -> str:
    """The estimate for a pull request's comment."""
    lines = [
        f"### Cost of a month in {found.environment} (USD)",
        "",
        "| | idle | adds when running | reckoned from |",
        "|---|---:|---:|---|",
        *(f"| {item.what} | {item.idle:.2f} | {item.running:.2f} | {item.how} |" for item in found.items),
        f"| **total** | **{found.idle:.2f}** | **{found.running:.2f}** | running holds the idle month |",
        "",
        f"Limits: {found.idle_limit:.2f} idle, {found.running_limit:.2f} running. "
        f"{len(found.unsourced)} prices have no source: {', '.join(found.unsourced)}.",
        *(f"\n**Above the limit**: {line}" for line in found.exceeded),
    ]
    return "\n".join(lines)
