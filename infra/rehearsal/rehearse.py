"""Rehearses the deploy of one environment: `python -m infra.rehearsal.rehearse cdktf.out/dev`.

For every stack, after those that it depends on: init, plan, apply, and a second plan that must be empty. Then
everything is destroyed, and nothing may be left; or, with `--protected`, its destruction must be refused.

Works on a copy of the synthesized stacks. Every backend, and every reference to another stack's state, becomes a
local file, so that stacks see one another's outputs just as they would through a bucket.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.rehearsal.cloud import Cloud
from infra.rehearsal.protected import holds_data
from infra.rehearsal.schema import BINDING, SchemaFile, binding_tarball, derive

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv-rehearsal" / "bin" / "python"
TERRAFORM_VERSION = "1.11.4"
WITHOUT_TERRAFORM = (
    f"the rehearsal needs terraform (any from 1.5 on; CI has {TERRAFORM_VERSION}): see "
    "https://developer.hashicorp.com/terraform/install, or 'brew install hashicorp/tap/terraform'"
)

_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "init": ("init", "-reconfigure"),
    "plan": ("plan", "-out=plan.bin"),
    "apply": ("apply", "plan.bin"),
    "second plan": ("plan", "-detailed-exitcode"),
    "destroy": ("destroy", "-auto-approve"),
}
_SUMMARIES = ("Plan:", "Apply complete", "Destroy complete", "No changes", "Terraform has been successfully")


class RehearsalError(Exception):
    """The rehearsal can't be held: something that it needs is missing."""


@dataclass(frozen=True)
class Outcome:
    """What one step of one stack came to."""

    stack: str
    step: str
    passed: bool
    seconds: float
    output: str

    def line(self) -> str:
        summary = next((text for text in reversed(self.output.splitlines()) if text.startswith(_SUMMARIES)), "")
        mark = "ok  " if self.passed else "FAIL"
        return f"{mark} {self.stack:34} {self.step:12} {self.seconds:5.1f} s  {summary}"


class Rehearsal:
    """Terraform, the stand-in provider and the make-believe cloud, in one folder.

    Raises:
        RehearsalError: terraform or the provider's environment is missing.
    """

    def __init__(self, work: Path, schemas: Path, python: Path = PYTHON) -> None:
        if shutil.which("terraform") is None:
            raise RehearsalError(WITHOUT_TERRAFORM)
        if not python.exists():
            raise RehearsalError(f"the stand-in provider has no environment at {python}: call 'make rehearse'")
        self.work = work.resolve()
        self.world = self.work / "world"
        self.cloud = Cloud(self.world)
        self._python = python
        (self.work / "states").mkdir(parents=True, exist_ok=True)
        (self.work / "plugins").mkdir(exist_ok=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TF_", "GOOGLE_"))},
            "TF_CLI_CONFIG_FILE": str(self._install(self._schema(schemas.resolve()))),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
        }

    def _schema(self, folder: Path) -> Path:
        """The provider's schema, derived once for each version of the binding."""
        from importlib.metadata import version

        found = folder / f"google-{version(BINDING.replace('_', '-'))}"
        if not (found / "schema.pb").exists():
            found.mkdir(parents=True, exist_ok=True)
            schemas, provider_version = derive(binding_tarball())
            SchemaFile.write(found / "schema.sqlite", schemas, provider_version)
            subprocess.run(
                [self._python, "-m", "infra.rehearsal.provider", "schema", str(found)], cwd=REPOSITORY, check=True
            )
        return found

    def _install(self, schema: Path) -> Path:
        """A mirror of providers with a wrapper as the binary, and the configuration that names the mirror."""
        version = SchemaFile(schema / "schema.sqlite").version()
        mirror = self.work / "mirror"
        folder = mirror / "registry.terraform.io" / "hashicorp" / "google" / version / _platform()
        folder.mkdir(parents=True, exist_ok=True)
        wrapper = folder / f"terraform-provider-google_v{version}"
        wrapper.write_text(
            f'#!/bin/sh\nexport PYTHONPATH="{REPOSITORY}"\n'
            f'exec "{self._python}" -m infra.rehearsal.provider serve "{schema}" "{self.world}"\n',
            encoding="utf-8",
        )
        wrapper.chmod(0o755)
        configuration = self.work / "terraformrc"
        configuration.write_text(
            "disable_checkpoint = true\n"
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n',
            encoding="utf-8",
        )
        return configuration

    def take(self, output: Path, stacks: Iterable[str]) -> None:
        """Copies synthesized stacks, with every state on this machine."""
        for stack in stacks:
            target = self.work / "stacks" / stack
            shutil.copytree(output / "stacks" / stack, target, dirs_exist_ok=True)
            file = target / "cdk.tf.json"
            document = with_local_states(json.loads(file.read_text(encoding="utf-8")), self.work / "states")
            file.write_text(json.dumps(document, indent=1), encoding="utf-8")

    def run(self, stack: str, step: str) -> Outcome:
        """Runs one of terraform's commands on one stack."""
        command, *options = _COMMANDS[step]
        started = time.monotonic()
        done = subprocess.run(
            ["terraform", command, "-no-color", *options],
            cwd=self.work / "stacks" / stack,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return Outcome(stack, step, done.returncode == 0, time.monotonic() - started, done.stdout)


def _platform() -> str:
    machine = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{platform.system().lower()}_{machine}"


def with_local_states(document: dict[str, Any], states: Path) -> dict[str, Any]:
    """The stack with its backend, and its references to other states, in local files; one for each address."""
    backend = document.setdefault("terraform", {}).pop("backend", {"local": {"path": "default"}})
    (settings,) = backend.values()
    document["terraform"]["backend"] = {"local": {"path": str(states / _state_name(settings))}}
    for reference in document.get("data", {}).get("terraform_remote_state", {}).values():
        settings = {name: value for name, value in reference["config"].items() if name != "workspace"}
        reference["backend"] = "local"
        reference["config"] = {"path": str(states / _state_name(settings))}
    return document


def _state_name(settings: Mapping[str, Any]) -> str:
    text = "-".join(str(settings[name]) for name in sorted(settings))
    return text.replace("/", "_").replace("..", "_") + ".tfstate"


def dependencies(output: Path, only: Iterable[str] = ()) -> dict[str, set[str]]:
    """Each stack and those that it depends on, in an order in which they can be deployed.

    Args:
        only: these stacks and what they depend on; all of them where it is empty.
    """
    stacks = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["stacks"]
    ordered: dict[str, set[str]] = {}

    def visit(name: str) -> None:
        for needed in stacks[name]["dependencies"]:
            visit(needed)
        ordered.setdefault(name, set(stacks[name]["dependencies"]))

    for name in only or stacks:
        visit(name)
    return ordered


def rehearse(
    rehearsal: Rehearsal, output: Path, *, protected: bool = False, only: Iterable[str] = (), workers: int = 2
) -> list[str]:
    """Rehearses an environment and prints each step; returns what failed, one line each."""
    after = dependencies(output, only)
    rehearsal.take(output, after)
    failures: list[str] = []
    workers = max(1, workers)

    def deploy(stack: str) -> bool:
        return all(_report(rehearsal.run(stack, step), failures) for step in _COMMANDS if step != "destroy")

    deployed = _in_order(after, deploy, workers)
    failures += [f"{stack}: not reached" for stack in after if stack not in deployed]
    if failures:
        return failures
    if protected:
        return _refused(rehearsal, after)
    before: dict[str, set[str]] = {stack: set() for stack in after}
    for stack, needed in after.items():
        for name in needed:
            before[name].add(stack)
    _in_order(before, lambda stack: _report(rehearsal.run(stack, "destroy"), failures), workers)
    return failures + [f"left behind: {name}" for name in rehearsal.cloud.objects()]


def _report(outcome: Outcome, failures: list[str]) -> bool:
    print(outcome.line(), flush=True)
    if not outcome.passed:
        print(outcome.output, flush=True)
        failures.append(f"{outcome.stack}: {outcome.step}")
    return outcome.passed


def _refused(rehearsal: Rehearsal, stacks: Iterable[str]) -> list[str]:
    """What is wrong if a protected environment lets itself be destroyed: data must survive."""
    failures = []
    for stack in stacks:
        file = rehearsal.work / "stacks" / stack / "cdk.tf.json"
        if not holds_data(json.loads(file.read_text(encoding="utf-8"))):
            continue
        outcome = rehearsal.run(stack, "destroy")
        refused = not outcome.passed and (
            "prevent_destroy" in outcome.output or "deletion_protection" in outcome.output
        )
        print(
            f"{'ok  ' if refused else 'FAIL'} {stack:34} {'is protected':12} {outcome.seconds:5.1f} s", flush=True
        )
        if not refused:
            failures.append(f"{stack}: holds data, and was not protected against its destruction")
    return failures


def _in_order(after: Mapping[str, set[str]], work: Any, workers: int) -> set[str]:
    """Does the work on each name after those that it waits for; returns the names on which it succeeded."""
    done: set[str] = set()
    running: dict[Future[bool], str] = {}
    waiting = dict(after)
    with ThreadPoolExecutor(workers) as pool:
        while True:
            for name in [name for name, needed in waiting.items() if needed <= done]:
                del waiting[name]
                running[pool.submit(work, name)] = name
            if not running:
                return done
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                if future.result():
                    done.add(name)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.rehearsal.rehearse", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("output", type=Path, nargs="+", help="folders of synthesized environments")
    parser.add_argument(
        "--work", type=Path, default=Path(".rehearsal"), help="where states and the cloud are kept"
    )
    parser.add_argument("--only", action="append", default=[], help="a stack (and what it depends on)")
    parser.add_argument("--protected", action="append", default=[], help="environment that refuses destruction")
    arguments = parser.parse_args(argv)
    started, failed = time.monotonic(), []
    for output in arguments.output:
        work = arguments.work / output.name
        if work.exists():
            shutil.rmtree(work)
        try:
            rehearsal = Rehearsal(work, arguments.work / "schema")
        except RehearsalError as missing:
            print(f"rehearsal: {missing}", file=sys.stderr)
            # A laptop may lack terraform; where changes are let in, nothing may be skipped.
            return 1 if os.environ.get("CI") == "true" else 0
        protected = output.name in arguments.protected
        failed += rehearse(rehearsal, output, protected=protected, only=arguments.only)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    print(f"{'FAILED' if failed else 'passed'}: {len(arguments.output)} environments", end=" ")
    print(f"in {time.monotonic() - started:.0f} s")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
