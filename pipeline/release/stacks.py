"""Plans and applies the synthesized stacks one after the other, each after those that it needs.

Reviewers see a plan's changes; whoever applies plans again and goes on only if the changes are still those. What
is then applied is the saved plan, so nothing can slip in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from caudal.errors import CaudalError
from caudal.identity import digest
from infra.checks.tables import TablesRefused, problems_of
from pipeline.release.commands import Runner, run

# Applied once, by a person: it makes the accounts that CI works with.
BY_HAND = frozenset({"bootstrap"})
PLAN_FILE = "plan.tfplan"
_SIGNS = {
    ("create",): "+",
    ("update",): "~",
    ("delete",): "-",
    ("delete", "create"): "-/+",
    ("create", "delete"): "+/-",
    ("read",): "<=",
}


class PlanChanged(CaudalError):
    """What would be applied is not what was reviewed."""


@dataclass(frozen=True)
class Change:
    """One resource that a plan touches."""

    stack: str
    address: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{_SIGNS.get(self.actions, '/'.join(self.actions))} {self.address}"


class Stacks:
    """The stacks of one environment.

    Args:
        output: what synthesis wrote: `manifest.json` and a folder for each stack.
        runner: starts terraform.
    """

    def __init__(self, output: Path, runner: Runner = run) -> None:
        self._output = output
        self._run = runner
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        self._needs = {name: set(stack["dependencies"]) for name, stack in manifest["stacks"].items()}
        self._folders = {name: output / stack["workingDirectory"] for name, stack in manifest["stacks"].items()}

    def names(self) -> list[str]:
        """The stacks in the order in which they are applied, those that a person applies left out."""
        return [name for name in TopologicalSorter(self._needs).static_order() if name not in BY_HAND]

    def plan(self) -> list[Change]:
        """Plans every stack, keeps the plans, and tells their changes.

        Raises:
            TablesRefused: a table would lose or forbid rows.
        """
        return [change for name in self.names() for change in self._plan(name)]

    def apply(self) -> Iterator[str]:
        """Applies the kept plans; gives each stack's name when it is done."""
        for name in self.names():
            self._terraform(name, "apply", "-input=false", PLAN_FILE)
            yield name

    def _plan(self, name: str) -> Iterator[Change]:
        self._terraform(name, "init", "-input=false")
        self._terraform(name, "plan", "-input=false", "-lock-timeout=5m", f"-out={PLAN_FILE}")
        shown = json.loads(self._terraform(name, "show", "-json", PLAN_FILE))
        problems = problems_of(shown)
        if problems:
            raise TablesRefused(problems)
        for resource in shown.get("resource_changes", ()):
            actions = tuple(resource["change"]["actions"])
            if actions != ("no-op",):
                yield Change(name, resource["address"], actions)

    def _terraform(self, stack: str, command: str, *arguments: str) -> str:
        colour = () if command == "show" else ("-no-color",)
        return self._run(["terraform", f"-chdir={self._folders[stack]}", command, *colour, *arguments])


def plan_digest(changes: Iterable[Change]) -> str:
    """What makes two plans the same to a reviewer: the stacks, addresses and actions."""
    return digest(*sorted((c.stack, c.address, c.actions) for c in changes))[:16]


def check_expected(changes: Iterable[Change], expected: str) -> None:
    """Refuses a plan that is not the one that was reviewed.

    Raises:
        PlanChanged: somebody or something changed the environment meanwhile.
    """
    found = plan_digest(changes)
    if found != expected:
        raise PlanChanged(
            f"the plan is {found}, and {expected} was reviewed",
            mend="look at the new plan, and let reviewers see it: start the deployment again",
        )


def as_markdown(environment: str, changes: list[Change]) -> str:
    """The changes for a comment; addresses and actions alone, since values may be nobody's business."""
    if not changes:
        return f"### {environment}: no changes\n"
    stacks = sorted({change.stack for change in changes})
    lines = [f"### {environment}: {len(changes)} changes in {len(stacks)} stacks", ""]
    for stack in stacks:
        own = [change for change in changes if change.stack == stack]
        lines += [f"<details><summary>{stack} ({len(own)})</summary>", "", "```diff"]
        lines += [str(change) for change in own]
        lines += ["```", "", "</details>", ""]
    return "\n".join([*lines, f"Plan {plan_digest(changes)}", ""])
