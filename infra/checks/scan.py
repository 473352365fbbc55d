"""Scans synthesized stacks with checkov: `python -m infra.checks.scan cdktf.out/dev cdktf.out/prod`.

Every check runs; what fails must stand in ACCEPTED with its reason, and what stands there must still fail: an
exception that is no longer needed is an error too. Checkov has an environment of its own
(requirements/checkov.txt), since it pins what it needs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CHECKOV = REPOSITORY / ".venv-checkov" / "bin" / "checkov"


@dataclass(frozen=True)
class Accepted:
    """A check that may fail on some resources.

    Attributes:
        resource: pattern of the addresses on which it may fail.
        reason: why that is right.
    """

    check: str
    resource: str
    reason: str


GOOGLE_KEYS = (
    "data is encrypted with Google's keys: own keys add a service to lose data by, and no separation here"
)

ACCEPTED = (
    Accepted("CKV_GCP_41", r"^bootstrap/ci-apply-", "CI deploys units that run as their accounts"),
    Accepted("CKV_GCP_49", r"^bootstrap/ci-apply-", "CI makes the units' accounts; it is no running unit"),
    Accepted(
        "CKV_GCP_49",
        r"^orchestration/grants_workflow-dataflow-developer-",
        "Dataflow's jobs belong to the project; who the workers act as is granted on their account alone",
    ),
    Accepted("CKV_GCP_62", r"^data/logs_bucket_", "the bucket of access logs can't log its own accesses"),
    Accepted("CKV_GCP_62", r"^bootstrap/state$", "it is made before the bucket of access logs"),
    Accepted(
        "CKV_GCP_78", r"^data/(logs|temp)_", "its objects are deleted by age; versions would only be paid for"
    ),
    Accepted("CKV_GCP_80", r"^data/\w.*_table_", GOOGLE_KEYS),
    Accepted("CKV_GCP_81", r"^data/\w+_dataset_", GOOGLE_KEYS),
    Accepted("CKV_GCP_84", r"^foundation/(function-)?registry$", GOOGLE_KEYS),
    Accepted("CKV_GCP_117", r"^bootstrap/ci-plan-viewer$", "terraform's plan reads every resource"),
    Accepted("CKV_GCP_121", r"^data/\w.*_table_", "an environment that is not protected is to be destroyed"),
    Accepted(
        "CKV_GCP_125",
        r"^bootstrap/provider$",
        "it knows conditions on `sub` only; ours is on the repository's number, which can't be taken over, and "
        "each account takes one environment of it",
    ),
)

# Checks that fall over their own feet on JSON; tests/infra/test_database.py looks at the same settings.
BROKEN = {
    "CKV_GCP_54": "checkov 3.3.30 takes a line number for a flag's value",
    "CKV_GCP_57": "checkov 3.3.30 takes a line number for a flag's value",
}


@dataclass
class Verdict:
    """What a scan came to: how many checks ran, and what is wrong, one line each."""

    checks: int = 0
    accepted: int = 0
    problems: list[str] = field(default_factory=list)


def scan(folders: Sequence[Path], checkov: Path = CHECKOV) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs checkov over folders of stacks.

    Returns:
        every check's outcome, and the checks that could not be run.
    """
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda folder: _scan(folder, checkov), folders))
    return [outcome for outcomes, _ in found for outcome in outcomes], [
        name for _, names in found for name in names
    ]


def _scan(folder: Path, checkov: Path) -> tuple[list[dict[str, Any]], list[str]]:
    stacks = str(folder / "stacks")
    command = [str(checkov), "--skip-download", "--framework", "terraform_json", "-o", "json", "-d", stacks]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise SystemExit(f"checkov did not answer:\n{done.stderr[-2000:]}") from error
    outcomes = []
    for report in found if isinstance(found, list) else [found]:
        results = report.get("results", {})
        for kind in ("passed", "failed", "skipped"):
            outcomes += [{**result, "outcome": kind} for result in results.get(f"{kind}_checks", [])]
        outcomes += [{"outcome": "unparsed", "resource": name} for name in results.get("parsing_errors", [])]
    return outcomes, re.findall(r"Failed to run check (\w+) on", done.stderr)


def judge(
    outcomes: Iterable[dict[str, Any]], broken: Iterable[str], accepted: Sequence[Accepted] = ACCEPTED
) -> Verdict:
    """What is wrong: failures that nobody accepted, exceptions that nothing needs, checks that did not run."""
    verdict, used = Verdict(), set()
    for outcome in outcomes:
        kind, address = outcome["outcome"], _address(outcome)
        if kind == "unparsed":
            verdict.problems.append(f"{address}: checkov can't read it")
            continue
        verdict.checks += 1
        if kind == "skipped":
            verdict.problems.append(f"{address}: skips {outcome['check_id']} without standing in ACCEPTED")
        elif kind == "failed":
            known = [a for a in accepted if a.check == outcome["check_id"] and re.search(a.resource, address)]
            used.update(known)
            verdict.accepted += bool(known)
            if not known:
                verdict.problems.append(f"{address}: {outcome['check_id']} {outcome['check_name']}")
    if not verdict.checks:
        verdict.problems.append("no check was run: checkov found nothing to look at")
    verdict.problems += [f"ACCEPTED: {a.check} on {a.resource} no longer fails" for a in accepted if a not in used]
    verdict.problems += [f"{check}: could not be run" for check in sorted(set(broken) - set(BROKEN))]
    return verdict


def _address(outcome: dict[str, Any]) -> str:
    """`<stack>/<name of the resource>`: in JSON, checkov does not tell a resource's type."""
    stack = Path(str(outcome.get("file_path", ""))).parent.name
    return f"{stack}/{str(outcome['resource']).removeprefix('resource.')}"


def main(argv: Sequence[str]) -> int:
    """Scans the folders that are named; returns the exit status."""
    if not CHECKOV.exists():
        print(f"scan: checkov has no environment at {CHECKOV.parent}: call 'make checkov'", file=sys.stderr)
        return 1
    outcomes, broken = scan([Path(folder) for folder in argv])
    verdict = judge(outcomes, broken)
    for problem in verdict.problems:
        print(f"failed: {problem}", file=sys.stderr)
    print(
        f"checkov: {verdict.checks} checks run, {verdict.accepted} failures accepted with a reason, "
        f"{len(set(broken))} of checkov's own checks broken, {len(verdict.problems)} problems"
    )
    return bool(verdict.problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
