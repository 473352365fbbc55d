"""Least privilege: what the step table and the declarations yield, and what no unit may ever hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caudal.cloud_names import FOLDERS as NAMED_FOLDERS
from caudal.environment import VertexRegistry
from caudal.tables import DATASETS as NAMED_DATASETS
from infra.access.declarations import (
    DATASETS,
    FOLDERS,
    Declarations,
    InvalidDeclaration,
    UndeclaredUnit,
    load_declarations,
    parse_declaration,
)
from infra.access.deployers import DEPLOYERS
from infra.access.grants import BUILDER, SCHEDULER, WORKFLOW, Grant, derive
from infra.access.roles import ROLES, too_wide
from infra.environments import Deployment
from infra.main import UNITS
from pipeline.steps import STEPS
from tests.infra.support import ROOT, Stacks, resources


@pytest.fixture(scope="module")
def grants() -> tuple[Grant, ...]:
    return derive(STEPS, load_declarations(ROOT))


def members(stacks: Stacks) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every grant of the synthesized stacks: address, type and arguments."""
    kinds = {kind for document in stacks.values() for kind in document.get("resource", {})}
    for kind in sorted(kinds):
        if kind.endswith("_iam_member"):
            for address, resource in resources(stacks, kind).items():
                yield address, kind, resource


def is_deployers(address: str) -> bool:
    return address.startswith("bootstrap/ci-")


def test_no_unit_holds_a_basic_or_administrators_role(stacks: Stacks) -> None:
    wide = {
        address: f"{resource['role']}: {too_wide(resource['role'])}"
        for address, _, resource in members(stacks)
        if not is_deployers(address) and too_wide(resource["role"])
    }
    assert wide == {}


def test_no_role_stands_on_the_project_that_a_narrower_resource_can_take(stacks: Stacks) -> None:
    on_project = {
        resource["role"]
        for address, kind, resource in members(stacks)
        if kind == "google_project_iam_member" and not is_deployers(address)
    }
    assert on_project
    assert {role for role in on_project if "project" not in ROLES[role]} == set()


@pytest.mark.parametrize(
    "role", ["roles/owner", "roles/editor", "roles/viewer", "roles/storage.admin", "roles/run.developer"]
)
def test_a_role_that_is_too_wide_is_named_with_its_reason(role: str) -> None:
    assert too_wide(role)


def test_deployers_have_a_reason_for_each_role_and_never_own_the_project() -> None:
    for deployer in DEPLOYERS:
        assert not {"roles/owner", "roles/editor"} & set(deployer.roles)
        assert all(deployer.roles.values())


def test_only_a_role_on_an_account_lets_one_account_act_as_another(stacks: Stacks) -> None:
    for address, kind, resource in members(stacks):
        if resource["role"] == "roles/iam.serviceAccountUser" and not is_deployers(address):
            assert kind == "google_service_account_iam_member", address


def test_no_resource_takes_away_what_others_granted(stacks: Stacks) -> None:
    kinds = {kind for document in stacks.values() for kind in document.get("resource", {})}
    assert not [kind for kind in kinds if kind.endswith(("_iam_binding", "_iam_policy"))]


def test_nothing_is_granted_to_everybody(stacks: Stacks) -> None:
    open_to = {"allUsers", "allAuthenticatedUsers"}
    assert [address for address, _, resource in members(stacks) if resource["member"] in open_to] == []


def test_the_database_roles_are_held_on_the_one_instance(stacks: Stacks) -> None:
    sql = [resource for _, _, resource in members(stacks) if resource["role"].startswith("roles/cloudsql.")]
    found = [r for r in sql if "ci-" not in r["member"] and "google_service_account.ci" not in r["member"]]
    assert len(found) == 2
    assert all("instances/caudal-mlflow'" in resource["condition"]["expression"] for resource in found)


def test_what_is_derived_is_what_is_synthesized(grants: tuple[Grant, ...], stacks: Stacks) -> None:
    synthesized = [address for address, _, _ in members(stacks) if "/grants_" in address]
    assert len(synthesized) == len(grants)


def test_a_declaration_less_is_a_grant_less(grants: tuple[Grant, ...]) -> None:
    declared = load_declarations(ROOT)
    without = declared["monitor"].model_copy(update={"writes": ("runs",)})
    fewer = derive(STEPS, Declarations({**declared.by_unit, "monitor": without}))
    lost = {grant.key() for grant in grants} - {grant.key() for grant in fewer}
    assert ("monitor", "roles/bigquery.dataEditor", "dataset", "monitoring") in lost
    assert all(account == "monitor" for account, *_ in lost)


def test_each_grant_follows_from_something(grants: tuple[Grant, ...]) -> None:
    assert all(grant.why for grant in grants)
    assert len({grant.key() for grant in grants}) == len(grants)


def test_every_account_is_used_and_no_account_does_without_grants(
    grants: tuple[Grant, ...], stacks: Stacks
) -> None:
    accounts = {name.split("_")[0] for name in map(str, resources(stacks, "google_service_account"))}
    assert accounts
    assert {grant.account for grant in grants} == {*UNITS, BUILDER, SCHEDULER, WORKFLOW}


def test_the_scheduler_can_do_nothing_but_start_the_workflow(grants: tuple[Grant, ...]) -> None:
    assert [g.role for g in grants if g.account == SCHEDULER] == ["roles/workflows.invoker"]


def test_serving_can_write_nothing(grants: tuple[Grant, ...]) -> None:
    roles = {grant.role for grant in grants if grant.account == "serving"}
    assert roles == {"roles/storage.objectViewer"}


def test_a_unit_without_a_declaration_is_refused_with_its_mend() -> None:
    declared = load_declarations(ROOT)
    others = {unit: declaration for unit, declaration in declared.by_unit.items() if unit != "trainer"}
    with pytest.raises(UndeclaredUnit) as error:
        derive(STEPS, Declarations(others))
    assert "services/trainer/access.yaml" in error.value.mend


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("access: 1\nreads: [lakes]\n", "access.yaml:2"),
        ("access: 1\nread: [lake]\n", "write 'reads'"),
        ("access: 1\nreads: [lake]\nwrites: [lake]\n", "said twice: lake"),
    ],
)
def test_a_declaration_that_is_wrong_names_line_and_mend(text: str, said: str) -> None:
    with pytest.raises(InvalidDeclaration, match=re.escape(said)):
        parse_declaration(text, "access.yaml")


def test_the_vocabulary_is_that_of_the_stacks() -> None:
    assert frozenset(NAMED_FOLDERS) == FOLDERS
    assert frozenset(NAMED_DATASETS) == DATASETS


# What a unit's code must call to touch a place. The code is searched for these names: what is called and not
# declared would fail in the cloud, what is declared and never called is a grant too many.
TOUCHES = {
    "landing": {"landing"},
    "ledger": {"ledger", "LoadLedger", "Promotions", "deliver"},
    "quarantine": {"quarantine"},
    "snapshots": {"snapshots"},
    "staging": {"staging"},
    "states": {"Publications"},
    "models": {"packages", "open_package"},
    "lake": {"lake_table", "LAKE"},
    "warehouse": {"warehouse_table", "rejected_table", "covered_table", "WAREHOUSE"},
    "predictions": {"predictions_table", "shadow_table", "served_table", "PREDICTIONS"},
    "monitoring": {"monitoring_table", "MONITORING"},
    "mlflow_server": {"Tracking"},
    "model_registry": {"follow"},
}


def names_used(unit: str) -> set[str]:
    """Every name and attribute that the unit's code uses, its tests aside."""
    found: set[str] = set()
    for file in (ROOT / "services" / unit).rglob("*.py"):
        if "tests" not in file.relative_to(ROOT).parts:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                elif isinstance(node, ast.Name):
                    found.add(node.id)
    return found


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != "mlflow_server"])
def test_what_a_units_code_touches_is_what_it_declares(unit: str) -> None:
    declaration = load_declarations(ROOT)[unit]
    declared = {*declaration.reads, *declaration.writes, *declaration.calls} & TOUCHES.keys()
    used = names_used(unit)
    touched = {place for place, names in TOUCHES.items() if names & used}
    assert {"undeclared": touched - declared, "unused": declared - touched} == {
        "undeclared": set(),
        "unused": set(),
    }


def test_who_promotes_may_register_it_in_vertex_where_the_environment_has_a_registry(
    grants: tuple[Grant, ...], deployments: dict[str, Deployment], synthesized: Callable[[Deployment], Stacks]
) -> None:
    """The trainer promotes what passed the gate, the monitor what won its trial."""
    declared = load_declarations(ROOT)
    added = set(derive(STEPS, declared, model_registry=True)) - set(grants)
    assert {grant.key() for grant in added} == {
        (unit, "roles/aiplatform.user", "project", "") for unit in ("trainer", "monitor")
    }

    dev = deployments["dev"]
    registry = VertexRegistry(project=dev.cloud.project, region=dev.cloud.region, image="serving")
    environment = dev.environment.model_copy(update={"model_registry": registry})
    stacks = synthesized(replace(dev, environment=environment))
    holders = {
        resource["member"].split(":")[1].split("@")[0]
        for _, kind, resource in members(stacks)
        if kind == "google_project_iam_member" and resource["role"] == "roles/aiplatform.user"
        and not resource["member"].startswith("$")
    }  # fmt: skip
    assert holders >= {"caudal-trainer", "caudal-monitor"}


def test_every_service_folder_declares_what_it_touches() -> None:
    folders = {path.name for path in (ROOT / "services").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(load_declarations(ROOT).by_unit)


def test_declarations_are_read_from_the_services_folders(tmp_path: Path) -> None:
    (tmp_path / "services" / "new_unit").mkdir(parents=True)
    (tmp_path / "services" / "new_unit" / "access.yaml").write_text("access: 1\nreads: [lake]\n")
    assert load_declarations(tmp_path)["new_unit"].reads == ("lake",)
