"""What is synthesized: addresses and grants by snapshot, protection, secrets, and units that stand alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from caudal.alarms import RUNBOOK, Alarm, Severity
from caudal.cloud_names import CloudNames
from caudal.errors import CaudalError
from caudal.served import MESSAGE
from caudal.served.bigquery import TABLE
from caudal.tables import PREDICTIONS
from infra.environments import Deployment, load_deployment
from infra.main import UNITS
from infra.release import Release, load_release
from tests.infra.support import ENVIRONMENTS, FIXTURES, ROOT, Stacks, resources

SNAPSHOTS = Path(__file__).parent / "snapshots"


def addresses_and_grants(stacks: Stacks) -> dict[str, list[str]]:
    """Every resource of every stack; of a grant, who may do what on which resource."""
    found = {}
    for stack, document in stacks.items():
        lines = []
        for kind, named in document.get("resource", {}).items():
            for name, resource in named.items():
                line = f"{kind}.{name}"
                if "_iam_member" in kind:
                    on = [str(resource[key]) for key in _TARGETS if key in resource]
                    line = f"{kind}: {resource['member']} has {resource['role']} on {' '.join(on)}"
                lines.append(line)
        found[stack] = sorted(lines)
    return found


_TARGETS = (
    "project",
    "bucket",
    "managed_folder",
    "dataset_id",
    "name",
    "repository",
    "service_account_id",
)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_addresses_and_grants_are_those_of_the_snapshot(environment: str, environments: dict[str, Stacks]) -> None:
    file = SNAPSHOTS / f"{environment}.json"
    found = addresses_and_grants(environments[environment])
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(file.read_text()), "if it is meant: UPDATE_SNAPSHOTS=1 pytest tests/infra"


@pytest.mark.parametrize("unit", UNITS)
def test_a_changed_unit_changes_the_stack_of_that_unit_alone(
    unit: str,
    deployments: dict[str, Deployment],
    environments: dict[str, Stacks],
    synthesized: Callable[[Deployment], Stacks],
    release: Release,
) -> None:
    another = "sha256:" + hashlib.sha256(b"another build").hexdigest()
    changed = release.model_copy(update={"units": {**release.units, unit: another}})
    after = synthesized(replace(deployments["dev"], release=changed))
    before = environments["dev"]
    assert [name for name in before if before[name] != after[name]] == [unit.replace("_", "-")]


def test_without_a_release_only_what_needs_none_is_synthesized(
    deployments: dict[str, Deployment], synthesized: Callable[[Deployment], Stacks]
) -> None:
    stacks = synthesized(replace(deployments["dev"], release=None))
    assert sorted(stacks) == ["bootstrap", "data", "foundation", "observability"]


def test_a_release_without_a_unit_names_the_unit_and_the_mend(
    deployments: dict[str, Deployment], synthesized: Callable[[Deployment], Stacks], release: Release
) -> None:
    units = {name: digest for name, digest in release.units.items() if name != "trainer"}
    with pytest.raises(CaudalError, match=r"'trainer'") as error:
        synthesized(replace(deployments["dev"], release=release.model_copy(update={"units": units})))
    assert "caudal release" in error.value.mend


def test_a_release_that_was_named_but_is_missing_names_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAUDAL_RELEASE", str(tmp_path / "none.json"))
    with pytest.raises(CaudalError) as error:
        load_release(tmp_path / "none.json")
    assert "caudal release" in error.value.mend


def test_a_digest_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "release.json"
    file.write_text(json.dumps({"release": 1, "commit": "c", "units": {"trainer": "latest"}}))
    with pytest.raises(CaudalError, match="no release"):
        load_release(file)


def test_every_image_of_ours_is_deployed_by_its_digest(stacks: Stacks) -> None:
    images = re.findall(r'"image(?:Uri)?": "([^"]+)"', json.dumps(stacks))
    ours = [image for image in images if "docker.pkg.dev" in image]
    assert ours
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in ours)


def test_an_image_of_others_has_an_exact_version(stacks: Stacks) -> None:
    images = re.findall(r'"image": "([^"]+)"', json.dumps(stacks))
    others = [image for image in images if "docker.pkg.dev" not in image]
    assert all(re.search(r":\d+\.\d+\.\d+$", image) for image in others), others


def test_no_stack_holds_a_secret(stacks: Stacks) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(keys(inner) for inner in value.values()))
        return set().union(*(keys(inner) for inner in value)) if isinstance(value, list) else set()

    found = keys({name: document.get("resource", {}) for name, document in stacks.items()})
    assert not [key for key in found if re.search("password|secret_data|private_key", key)]
    assert not resources(stacks, "google_service_account_key")


def test_data_refuses_to_be_destroyed_only_where_the_environment_is_protected(
    environments: dict[str, Stacks],
) -> None:
    def protected(stacks: Stacks) -> set[bool]:
        tables = resources(stacks, "google_bigquery_table")
        database = resources(stacks, "google_sql_database_instance")
        return {resource["deletion_protection"] for resource in (*tables.values(), *database.values())}

    assert {name: protected(stacks) for name, stacks in environments.items()} == {
        "dev": {False},
        "staging": {True},
        "prod": {True},
    }


def test_no_bucket_can_be_public_and_all_have_uniform_access(stacks: Stacks) -> None:
    buckets = resources(stacks, "google_storage_bucket")
    assert len(buckets) == 8
    for bucket in buckets.values():
        assert bucket["public_access_prevention"] == "enforced"
        assert bucket["uniform_bucket_level_access"] is True


def test_temporary_objects_are_not_kept_for_money(stacks: Stacks) -> None:
    temp = resources(stacks, "google_storage_bucket")["data/temp_bucket_FBF57A69"]
    assert temp["soft_delete_policy"] == {"retention_duration_seconds": 0}
    assert temp["versioning"] == {"enabled": False}


def test_the_database_has_no_public_address_and_logs_what_auditors_ask_for(stacks: Stacks) -> None:
    (instance,) = resources(stacks, "google_sql_database_instance").values()
    settings = instance["settings"]
    assert settings["ip_configuration"]["ipv4_enabled"] is False
    flags = {flag["name"]: flag["value"] for flag in settings["database_flags"]}
    # CKV_GCP_54 and CKV_GCP_57, which checkov can't run on JSON.
    assert flags["log_lock_waits"] == "on"
    assert flags["log_min_duration_statement"] == "-1"
    assert flags["cloudsql.iam_authentication"] == "on"


def test_every_alert_has_somebody_to_tell(stacks: Stacks) -> None:
    policies = resources(stacks, "google_monitoring_alert_policy")
    assert len(policies) == 10
    assert all(policy["notification_channels"] for policy in policies.values())
    (budget,) = resources(stacks, "google_billing_budget").values()
    assert budget["all_updates_rule"]["monitoring_notification_channels"]


def said(policy: dict[str, Any]) -> str:
    """The documentation as Cloud Monitoring gets it: Terraform makes `${` of `$${`."""
    content: str = policy["documentation"]["content"]
    assert not re.search(r"(?<!\$)\$\{", content)
    return content.replace("$${", "${")


def test_every_alert_links_to_a_section_of_the_runbook_in_the_repository(stacks: Stacks) -> None:
    text = (ROOT / RUNBOOK).read_text()
    anchors = set(re.findall(r"^## (.+)$", text, re.MULTILINE))
    for name, policy in resources(stacks, "google_monitoring_alert_policy").items():
        (link,) = re.findall(r"\]\((.+)\)", said(policy))
        assert link.startswith("https://github.com/your-organisation/caudal/blob/")
        path = link.split("/blob/")[1].split("/", 1)[1]
        if path != "${log.extracted_label.runbook}":
            assert path == f"{RUNBOOK}#{name.removeprefix('observability/alert-')}"
            assert path.split("#")[1] in anchors


def test_the_runbook_is_linked_as_it_was_when_what_is_deployed_was_built(
    deployments: dict[str, Deployment], synthesized: Callable[[Deployment], Stacks], release: Release
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    for released, shown in (
        (release.model_copy(update={"commit": commit}), commit),
        (release.model_copy(update={"commit": commit[:12]}), commit[:12]),
        (None, "HEAD"),
    ):
        policies = resources(
            synthesized(replace(deployments["dev"], release=released)), "google_monitoring_alert_policy"
        )
        assert all(f"/blob/{shown}/" in said(policy) for policy in policies.values())


def test_an_alarm_reaches_the_policy_of_its_severity_with_all_that_it_says(stacks: Stacks) -> None:
    policies = resources(stacks, "google_monitoring_alert_policy")
    alarm = Alarm("payments", datetime(2026, 3, 1, tzinfo=UTC), "drift", "psi", "amount", 0.4, 0.25,
                  datetime(2026, 3, 1, tzinfo=UTC))  # fmt: skip
    for severity in get_args(Severity):
        name = "ended" if severity == "info" else severity
        policy = policies[f"observability/alert-alarm-{name}"]
        assert policy.get("severity") == (None if severity == "info" else severity.upper())
        (condition,) = policy["conditions"]
        matched = condition["condition_matched_log"]
        assert f'jsonPayload.alarm.severity = "{severity}"' in matched["filter"]
        fields = {name: re.fullmatch(r"EXTRACT\(jsonPayload\.(?:alarm\.)?(\w+)\)", how)[1]
                  for name, how in matched["label_extractors"].items()}  # fmt: skip
        assert set(fields.values()) <= {"message", *alarm.to_json()}
        shown = said(policy) + policy["documentation"]["subject"]
        assert set(re.findall(r"extracted_label\.(\w+)\}", shown)) == set(fields)


def test_an_outage_of_serving_is_told_at_the_load_of_every_environment(
    deployments: dict[str, Deployment], stacks: Stacks
) -> None:
    policy = resources(stacks, "google_monitoring_alert_policy")["observability/alert-serving-errors"]
    assert policy["combiner"] == "AND_WITH_MATCHING_RESOURCE"
    limits = [condition["condition_threshold"] for condition in policy["conditions"]]
    (share,) = [limit for limit in limits if "denominator_filter" in limit]
    (number,) = [limit for limit in limits if "denominator_filter" not in limit]
    assert share["filter"].startswith(share["denominator_filter"])
    assert 0 < share["threshold_value"] < 1
    for deployment in deployments.values():
        # Five minutes of a month in which every answer is an error, at one service.
        services = len(deployment.contracts)
        answers = deployment.cloud.workload.requests * 300 / (30 * 86400) / services
        if deployment.name != "dev":
            assert answers > number["threshold_value"], deployment.name


def test_every_alert_about_something_wrong_has_a_severity(stacks: Stacks) -> None:
    policies = resources(stacks, "google_monitoring_alert_policy")
    without = {name for name, policy in policies.items() if policy.get("severity") is None}
    assert without == {"observability/alert-alarm-ended"}


def test_an_alert_on_log_entries_says_how_often_it_may_write(stacks: Stacks) -> None:
    for policy in resources(stacks, "google_monitoring_alert_policy").values():
        if any("condition_matched_log" in condition for condition in policy["conditions"]):
            assert policy["alert_strategy"]["notification_rate_limit"]["period"]


def test_every_table_of_every_contract_is_a_resource(deployments: dict[str, Deployment], stacks: Stacks) -> None:
    found = {
        (table["table_id"], len(json.loads(table["schema"])))
        for table in resources(stacks, "google_bigquery_table").values()
    }
    for contract in deployments["dev"].contracts:
        names = {name for name, _ in found}
        served = {f"{contract.name}_shadow", f"{contract.name}_served"}
        assert {contract.name, f"{contract.name}_rejected", "measurements", "_covered"} | served <= names


def test_the_log_sink_takes_predictions_to_the_table_that_the_monitor_reads(stacks: Stacks) -> None:
    (sink,) = resources(stacks, "google_logging_project_sink").values()
    assert sink["destination"].endswith(f"/datasets/{PREDICTIONS}")
    assert f'jsonPayload.message = "{MESSAGE}"' in sink["filter"]
    # Without it there is a table a day, of another name each.
    assert sink["bigquery_options"] == {"use_partitioned_tables": True}
    # What Cloud Logging makes of the name of Cloud Run's log of the standard output.
    assert re.sub(r"\W", "_", "run.googleapis.com/stdout") == TABLE


def test_names_are_within_googles_limits(deployments: dict[str, Deployment]) -> None:
    from infra.main import ACCOUNTS

    names = CloudNames(deployments["prod"].cloud)
    assert all(6 <= len(names.account_id(unit)) <= 30 for unit in ACCOUNTS)
    assert all(len(names.serving(contract.name)) <= 49 for contract in deployments["prod"].contracts)


@pytest.mark.parametrize(
    ("written", "instead", "said", "mend"),
    [
        (
            "gs://caudal-dev-000000-models", "gs://elsewhere", "places.models is 'gs://elsewhere'",
            "gs://caudal-dev-000000-models",
        ),
        (
            "schedule:", "model_registry: {project: other, region: europe-west1, image: i}\nschedule:",
            "model_registry.project is 'other'", "write 'caudal-dev-000000'",
        ),
    ],
)  # fmt: skip
def test_an_environment_that_disagrees_with_its_project_is_refused(
    tmp_path: Path, written: str, instead: str, said: str, mend: str
) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "contracts").mkdir()
    text = (ROOT / "environments" / "dev.yaml").read_text()
    (tmp_path / "environments" / "dev.yaml").write_text(text.replace(written, instead))
    with pytest.raises(CaudalError, match=re.escape(said)) as error:
        load_deployment("dev", tmp_path)
    assert mend in str(error.value)


def test_a_laptops_environment_is_not_deployed() -> None:
    with pytest.raises(CaudalError, match="not in a cloud"):
        load_deployment("local", ROOT)


def test_the_made_up_release_says_that_it_is_made_up() -> None:
    assert "made-up" in (FIXTURES / "release.json").read_text()
