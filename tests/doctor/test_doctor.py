"""The doctor's findings, on answers as Google's APIs give them.

Errors follow the model that all of the APIs share (google.rpc.Status with ErrorInfo, documented as AIP-193); no
project was at hand to record them from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from caudal.cloud_names import CloudNames
from caudal.environment import load_environment
from pipeline.doctor import checks
from pipeline.doctor.findings import Answer, Finding, explain
from pipeline.release.commands import CommandFailed
from pipeline.workflow.api import ApiCall

DIGEST = "sha256:" + "a" * 64
APIS = [f"api{n}.googleapis.com" for n in range(25)]


def refused(status: int, code: str, reason: str = "", **metadata: str) -> Answer:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata}]
    body = {"error": {"code": status, "status": code, "message": f"{code}.", "details": details if reason else []}}
    return Answer(status, body)


@pytest.fixture(scope="module")
def names(repository: Path) -> CloudNames:
    cloud = load_environment(repository / "environments" / "dev.yaml").cloud
    assert cloud is not None
    return CloudNames(cloud)


class Project:
    """A project in which everything is as it should be; answers can be replaced by the method's id."""

    def __init__(self, names: CloudNames, replaced: Mapping[str, Answer] | None = None) -> None:
        self.names = names
        self.replaced = dict(replaced or {})
        self.asked: list[str] = []

    def __call__(self, call: ApiCall) -> Answer:
        call.check()
        self.asked.append(call.method)
        if call.method in self.replaced:
            return self.replaced[call.method]
        number = self.names.cloud.project_number
        agents = [
            {"role": role, "members": [f"serviceAccount:service-{number}@{account}.iam.gserviceaccount.com"]}
            for account, role, _ in checks.SERVICE_AGENTS.values()
        ]
        enabled = [{"name": f"projects/1/services/{api}", "state": "ENABLED"} for api in APIS]
        account = f"billingAccounts/{self.names.cloud.budget.billing_account}"
        return Answer(
            200,
            {
                "cloudresourcemanager.projects.get": {"name": f"projects/{number}", "state": "ACTIVE"},
                "cloudbilling.projects.getBillingInfo": {"billingEnabled": True, "billingAccountName": account},
                "serviceusage.services.batchGet": {"services": enabled},
                "cloudresourcemanager.projects.getIamPolicy": {"bindings": agents},
                "compute.regions.get": {"quotas": [{"metric": "CPUS", "limit": 24.0, "usage": 2.0}]},
                "storage.buckets.get": {"versioning": {"enabled": True}},
            }.get(call.method, {}),
        )


VERSIONS = {
    "terraform": "Terraform v1.11.4\non linux_amd64",
    "docker": "github.com/docker/buildx v0.24.0 d0e5e86",
    "gcloud": "Google Cloud SDK 528.0.0\nbq 2.1.18",
}


def programs(arguments: Sequence[str]) -> str:
    return VERSIONS[arguments[0]]


def examined(
    project: Project, run: Any = programs, digests: Mapping[str, str] | None = None
) -> dict[str, Finding]:
    released = {"monitor": DIGEST, "ingest_function": DIGEST} if digests is None else digests
    around = checks.Surroundings(project.names, project, run, APIS, released)
    return {finding.check: finding for finding in checks.examine(around)}


def test_where_nothing_is_wrong_everything_is_ok(names: CloudNames) -> None:
    found = examined(Project(names))
    assert {finding.status for finding in found.values()} == {"ok"}
    assert checks.worst(list(found.values())) == 0


def test_every_finding_that_is_not_ok_names_a_mend(names: CloudNames) -> None:
    def nothing(_: Sequence[str]) -> str:
        raise CommandFailed("there is no program")

    methods = Project(names)
    examined(methods)
    for method in set(methods.asked):
        for answer in (
            refused(403, "PERMISSION_DENIED"),
            refused(404, "NOT_FOUND"),
            Answer(0, {}),
            Answer(503, {}),
        ):
            found = examined(Project(names, {method: answer}), nothing)
            assert all(finding.mend for finding in found.values() if finding.status != "ok"), method


@pytest.mark.parametrize(
    ("answer", "what", "mend"),
    [
        (refused(401, "UNAUTHENTICATED"), "credentials", "gcloud auth application-default login"),
        (
            refused(403, "PERMISSION_DENIED", "SERVICE_DISABLED", service="run.googleapis.com"),
            "run.googleapis.com is not enabled",
            "gcloud services enable run.googleapis.com --project p",
        ),
        (refused(403, "PERMISSION_DENIED", "BILLING_DISABLED"), "no billing", "gcloud billing projects link p"),
        (
            refused(403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED", permission="storage.buckets.get"),
            "not allowed (storage.buckets.get)",
            "role",
        ),
        (refused(404, "NOT_FOUND"), "not there", "project's name"),
        (refused(429, "RESOURCE_EXHAUSTED"), "too many", "wait"),
        (Answer(0, {}), "no answer", "network"),
        (Answer(500, {"error": {"message": "backend\nerror"}}), "backend", "status.cloud.google.com"),
        (Answer(502, {"error": "bad gateway"}), "502", "again"),
    ],
)
def test_a_refusal_becomes_a_sentence_and_a_mend(answer: Answer, what: str, mend: str) -> None:
    found = explain(answer, "it", "p")
    assert what in found[0]
    assert mend in found[1]


def test_a_project_that_cannot_be_reached_ends_the_questions(names: CloudNames) -> None:
    project = Project(names, {"cloudresourcemanager.projects.get": refused(401, "UNAUTHENTICATED")})
    found = examined(project)
    assert found["project"].status == "failed"
    assert project.asked == ["cloudresourcemanager.projects.get"]


def test_a_wrong_project_number_is_told_with_the_right_one(names: CloudNames) -> None:
    answer = Answer(200, {"name": "projects/42", "state": "ACTIVE"})
    found = examined(Project(names, {"cloudresourcemanager.projects.get": answer}))
    assert found["project"].mend == "write cloud.project_number: '42'"


def test_a_missing_api_is_named_in_the_mend(names: CloudNames) -> None:
    enabled = [{"name": f"projects/1/services/{api}", "state": "ENABLED"} for api in APIS[:-1]]
    found = examined(Project(names, {"serviceusage.services.batchGet": Answer(200, {"services": enabled})}))
    assert found["APIs"].status == "warning"
    assert "api24.googleapis.com" in found["APIs"].mend
    assert "api23" not in found["APIs"].mend


def test_a_service_agent_without_its_role_is_named(names: CloudNames) -> None:
    found = examined(Project(names, {"cloudresourcemanager.projects.getIamPolicy": Answer(200, {"bindings": []})}))
    agent = found["service agent of Dataflow"]
    assert agent.status == "warning"
    assert "services identity create --service dataflow.googleapis.com" in agent.mend
    assert "--role roles/dataflow.serviceAgent" in agent.mend


def test_too_few_processors_are_counted_for_the_workers_that_the_environment_allows(names: CloudNames) -> None:
    size = names.cloud.sizes.etl_beam
    per_worker = int(re.sub(r".*-", "", size.machine_type))
    enough = float(per_worker * size.max_workers)
    for limit, status in ((enough, "ok"), (enough - 1, "warning")):
        quota = {"quotas": [{"metric": "CPUS", "limit": limit, "usage": 0.0}]}
        found = examined(Project(names, {"compute.regions.get": Answer(200, quota)}))
        assert found["quotas"].status == status


def test_a_project_without_state_bucket_is_sent_to_the_bootstrap(names: CloudNames) -> None:
    found = examined(Project(names, {"storage.buckets.get": refused(404, "NOT_FOUND")}))
    assert found["state bucket"].status == "failed"
    assert "bootstrap" in found["state bucket"].mend


def test_an_image_that_is_in_no_registry_fails(names: CloudNames) -> None:
    method = "artifactregistry.projects.locations.repositories.dockerImages.get"
    found = examined(Project(names, {method: refused(404, "NOT_FOUND")}))
    assert found["release of monitor"].status == "failed"
    assert found["release of ingest_function"].status == "ok"
    assert checks.worst(list(found.values())) == 1


def test_another_billing_account_than_the_budgets_is_a_warning(names: CloudNames) -> None:
    other = Answer(200, {"billingEnabled": True, "billingAccountName": "billingAccounts/FFFFFF-FFFFFF-FFFFFF"})
    assert examined(Project(names, {"cloudbilling.projects.getBillingInfo": other}))["billing"].status == "warning"


@pytest.mark.parametrize(
    ("said", "status"), [("Terraform v1.4.9", "failed"), ("Terraform v1.5.0", "ok"), ("Terraform", "failed")]
)
def test_a_tool_that_is_too_old_is_told(names: CloudNames, said: str, status: str) -> None:
    def run(arguments: Sequence[str]) -> str:
        return said if arguments[0] == "terraform" else programs(arguments)

    assert examined(Project(names), run)["terraform"].status == status


def test_a_missing_tool_is_told_with_its_address(names: CloudNames) -> None:
    def run(arguments: Sequence[str]) -> str:
        if arguments[0] == "docker":
            raise CommandFailed("there is no program 'docker'")
        return programs(arguments)

    found = examined(Project(names), run)["docker buildx"]
    assert found.status == "failed"
    assert "https://" in found.mend
