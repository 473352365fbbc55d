"""What the doctor looks at. Every check gives findings and raises nothing; each says the mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.doctor.findings import Answer, Finding, explain
from pipeline.release.commands import CommandFailed, Runner
from pipeline.workflow.api import ApiCall

if TYPE_CHECKING:
    from caudal.cloud_names import CloudNames

Ask = Callable[[ApiCall], Answer]

# Programs: how each tells its version, the least that works, and what it is for.
TOOLS = (
    (
        "terraform",
        ("terraform", "version"),
        (1, 5),
        "plans and applies",
        "https://developer.hashicorp.com/terraform",
    ),
    ("docker buildx", ("docker", "buildx", "version"), (0, 12), "builds images", "https://docs.docker.com/build"),
    ("gcloud", ("gcloud", "version"), (450,), "logs you in", "https://cloud.google.com/sdk/docs/install"),
)
# Agents that Google makes with an API's first use, and without whose role a first run fails.
SERVICE_AGENTS = {
    "Dataflow": ("dataflow-service-producer-prod", "roles/dataflow.serviceAgent", "dataflow"),
    "Vertex AI": ("gcp-sa-aiplatform", "roles/aiplatform.serviceAgent", "aiplatform"),
    "Cloud Run": ("serverless-robot-prod", "roles/run.serviceAgent", "run"),
    "Workflows": ("gcp-sa-workflows", "roles/workflows.serviceAgent", "workflows"),
}
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_VCPUS = re.compile(r"^[a-z]\w*-\w+-(\d+)$")


@dataclass(frozen=True)
class Surroundings:
    """What the checks look at, and through what they look.

    Attributes:
        ask: sends a request and gives the answer, whatever it is.
        run: starts a program.
        apis: which must be enabled, such as `run.googleapis.com`.
        digests: of the release, by unit; None where nothing was built yet.
    """

    names: CloudNames
    ask: Ask
    run: Runner
    apis: Sequence[str]
    digests: Mapping[str, str] | None


def examine(around: Surroundings) -> Iterator[Finding]:
    """Looks at everything; where the project can't be reached, what lies in it is not asked for."""
    yield from tools(around)
    project = list(the_project(around))
    yield from project
    if any(finding.status == "failed" for finding in project):
        return
    for check in (billing, enabled_apis, service_agents, quotas, state_bucket, images):
        yield from check(around)


def tools(around: Surroundings) -> Iterator[Finding]:
    """Programs that a deployment calls, and their versions."""
    for name, command, least, purpose, where in TOOLS:
        wanted = ".".join(map(str, least))
        try:
            said = around.run(command)
        except CommandFailed:
            yield Finding(name, "failed", f"it is missing; it {purpose}", f"install {wanted} or later: {where}")
            continue
        found = _VERSION.search(said)
        version = tuple(int(part) for part in found.group().split(".")) if found else ()
        if version < least:
            shown = found.group() if found else "an unknown version"
            yield Finding(name, "failed", f"{shown} is too old", f"install {wanted} or later: {where}")
        else:
            yield Finding(name, "ok", found.group() if found else "")


def the_project(around: Surroundings) -> Iterator[Finding]:
    """Credentials, and the project that the environment names."""
    names = around.names
    call = ApiCall(
        "cloudresourcemanager.v3", "cloudresourcemanager.projects.get", {"name": f"projects/{names.project}"}
    )
    answer = around.ask(call)
    if not answer.ok:
        yield Finding("project", "failed", *explain(answer, f"project {names.project}", names.project))
        return
    number = str(answer.body.get("name", "")).removeprefix("projects/")
    expected = names.cloud.project_number
    if answer.body.get("state") != "ACTIVE":
        what = f"{names.project} is {answer.body.get('state')}"
        yield Finding("project", "failed", what, f"gcloud projects undelete {names.project}, or name another")
    elif number != expected:
        what = f"the number of {names.project} is {number}, and the environment says {expected}"
        yield Finding("project", "failed", what, f"write cloud.project_number: '{number}'")
    else:
        yield Finding("project", "ok", f"{names.project} ({number})")


def billing(around: Surroundings) -> Iterator[Finding]:
    """Whether somebody pays."""
    project = around.names.project
    call = ApiCall("cloudbilling.v1", "cloudbilling.projects.getBillingInfo", {"name": f"projects/{project}"})
    answer = around.ask(call)
    account = around.names.cloud.budget.billing_account
    if not answer.ok:
        yield Finding("billing", "unknown", *explain(answer, "billing", project))
    elif not answer.body.get("billingEnabled"):
        mend = f"gcloud billing projects link {project} --billing-account {account}"
        yield Finding("billing", "failed", "the project has no billing account", mend)
    elif answer.body.get("billingAccountName") != f"billingAccounts/{account}":
        what = f"{answer.body.get('billingAccountName')} pays, and the environment's budget watches {account}"
        yield Finding("billing", "warning", what, "write the account that pays into cloud.budget.billing_account")
    else:
        yield Finding("billing", "ok", account)


def enabled_apis(around: Surroundings) -> Iterator[Finding]:
    """The APIs; the foundation enables them, which takes some minutes to be known everywhere."""
    project = around.names.project
    missing: list[str] = []
    for start in range(0, len(around.apis), 20):  # so many names fit into one request
        group = around.apis[start : start + 20]
        call = ApiCall(
            "serviceusage.v1",
            "serviceusage.services.batchGet",
            {"parent": f"projects/{project}"},
            {"names": [f"projects/{project}/services/{api}" for api in group]},
        )
        answer = around.ask(call)
        if not answer.ok:
            yield Finding("APIs", "unknown", *explain(answer, "enabled APIs", project))
            return
        enabled = {
            str(service["name"]).rsplit("/", 1)[-1]
            for service in answer.body.get("services", ())
            if service.get("state") == "ENABLED"
        }
        missing += [api for api in group if api not in enabled]
    if missing:
        mend = f"deploy the foundation stack, or: gcloud services enable {' '.join(missing)} --project {project}"
        yield Finding("APIs", "warning", f"not enabled: {', '.join(missing)}", mend)
    else:
        yield Finding("APIs", "ok", f"{len(around.apis)} enabled")


def service_agents(around: Surroundings) -> Iterator[Finding]:
    """Google's own accounts that start jobs for us; they appear with the first use, which is too late."""
    project, number = around.names.project, around.names.cloud.project_number
    call = ApiCall(
        "cloudresourcemanager.v3",
        "cloudresourcemanager.projects.getIamPolicy",
        {"resource": f"projects/{project}"},
        body={},
    )
    answer = around.ask(call)
    if not answer.ok:
        yield Finding("service agents", "unknown", *explain(answer, "grants of the project", project))
        return
    held = {(b["role"], member) for b in answer.body.get("bindings", ()) for member in b.get("members", ())}
    for name, (account, role, api) in SERVICE_AGENTS.items():
        member = f"serviceAccount:service-{number}@{account}.iam.gserviceaccount.com"
        if (role, member) in held:
            yield Finding(f"service agent of {name}", "ok", role)
            continue
        create = f"gcloud beta services identity create --service {api}.googleapis.com --project {project}"
        grant = f"gcloud projects add-iam-policy-binding {project} --member {member} --role {role}"
        what = "it is not there, or lost its role"
        yield Finding(f"service agent of {name}", "warning", what, f"{create}; then {grant}")


def quotas(around: Surroundings) -> Iterator[Finding]:
    """Whether the region lends as many processors as Dataflow may take at once."""
    names, size = around.names, around.names.cloud.sizes.etl_beam
    call = ApiCall("compute.v1", "compute.regions.get", {"project": names.project, "region": names.region})
    answer = around.ask(call)
    if not answer.ok:
        yield Finding("quotas", "unknown", *explain(answer, f"quotas of {names.region}", names.project))
        return
    match = _VCPUS.match(size.machine_type)
    need = {"IN_USE_ADDRESSES": 0.0, "CPUS": float(match.group(1)) * size.max_workers if match else 0.0}
    family = f"{size.machine_type.split('-')[0].upper()}_CPUS"
    need[family] = need["CPUS"]
    short = [
        f"{quota['metric']}: {quota['limit'] - quota['usage']:g} free, {need[quota['metric']]:g} wanted"
        for quota in answer.body.get("quotas", ())
        if need.get(quota["metric"], 0) > quota["limit"] - quota["usage"]
    ]
    if short:
        mend = "ask for more under IAM & Admin, Quotas; or lower cloud.sizes.etl_beam.max_workers"
        yield Finding("quotas", "warning", "; ".join(short), mend)
    else:
        yield Finding("quotas", "ok", f"{need['CPUS']:g} processors for Dataflow in {names.region}")


def state_bucket(around: Surroundings) -> Iterator[Finding]:
    """Where terraform keeps what it knows."""
    bucket = around.names.bucket("state")
    answer = around.ask(ApiCall("storage.v1", "storage.buckets.get", {"bucket": bucket}))
    if answer.status == 404:
        mend = "a person applies the bootstrap stack once: docs/deploy.md"
        yield Finding("state bucket", "failed", f"gs://{bucket} is not there", mend)
    elif not answer.ok:
        yield Finding("state bucket", "unknown", *explain(answer, f"gs://{bucket}", around.names.project))
    elif not answer.body.get("versioning", {}).get("enabled"):
        mend = f"gcloud storage buckets update gs://{bucket} --versioning"
        yield Finding("state bucket", "warning", f"gs://{bucket} keeps no versions of the state", mend)
    else:
        yield Finding("state bucket", "ok", f"gs://{bucket}")


def images(around: Surroundings) -> Iterator[Finding]:
    """Whether what release.json names is in this environment's registry and bucket."""
    names = around.names
    if around.digests is None:
        mend = "caudal release --env ENV, once foundation and data are deployed"
        yield Finding("release", "warning", "there is no release.json yet", mend)
        return
    for unit, digest in sorted(around.digests.items()):
        if unit == "ingest_function":
            path = {"bucket": names.bucket("releases"), "object": names.archive(unit, digest).replace("/", "%2F")}
            answer = around.ask(ApiCall("storage.v1", "storage.objects.get", path))
        else:
            image = names.image(unit, digest).rsplit("/", 1)[-1]
            name = f"projects/{names.project}/locations/{names.region}/repositories/caudal/dockerImages/{image}"
            method = "artifactregistry.projects.locations.repositories.dockerImages.get"
            answer = around.ask(ApiCall("artifactregistry.v1", method, {"name": name}))
        if answer.ok:
            yield Finding(f"release of {unit}", "ok", digest[:19])
        elif answer.status == 404:
            mend = f"caudal release --env ENV --unit {unit}, or --from the environment where it was built"
            yield Finding(f"release of {unit}", "failed", f"{digest[:19]} is not in this project", mend)
        else:
            yield Finding(f"release of {unit}", "unknown", *explain(answer, unit, names.project))


def worst(findings: Sequence[Finding]) -> int:
    """The exit status: 1 when something is missing that a deployment needs."""
    return int(any(finding.status == "failed" for finding in findings))


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For machines."""
    return [vars(finding) for finding in findings]
