"""The stand-in provider's answers, without terraform: schema, plans, made-up values, the make-believe cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.rehearsal.cloud import Cloud, identity
from infra.rehearsal.plan import UNKNOWN, check, filled, planned_state, replaced_by
from infra.rehearsal.rehearse import dependencies, with_local_states
from infra.rehearsal.schema import Attribute, Block, NestedBlock, SchemaFile, Schemas, binding_tarball, derive

BUCKET = Block(
    {
        "name": Attribute("string", "required"),
        "project": Attribute("string", "optional"),
        "storage_class": Attribute("string", "optional", values=["STANDARD", "NEARLINE"]),
        "labels": Attribute(["map", "string"], "optional"),
        "effective_labels": Attribute(["map", "string"], "computed"),
        "terraform_labels": Attribute(["map", "string"], "computed"),
        "url": Attribute("string", "computed"),
        "id": Attribute("string", "optional"),
    },
    {"versioning": NestedBlock("LIST", 0, 1, Block({"enabled": Attribute("bool", "required")}))},
)


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return derive(binding_tarball())[0]


def test_the_schema_of_the_pinned_binding_is_read_whole(schemas: Schemas) -> None:
    # The Python side of the binding has a module for each type.
    package = binding_tarball().parents[1]
    modules = {path.parent.name for path in package.glob("*/__init__.py")} - {"_jsii", "provider"}
    data = {name for name in modules if name.startswith("data_google_")}
    kinds = [kind for kind, _ in schemas]
    assert kinds.count("provider") == 1
    assert kinds.count("data") == len(data) > 300
    assert kinds.count("resource") == len(modules - data) > 1000


def test_what_the_documentation_says_of_a_bucket_is_in_its_schema(schemas: Schemas) -> None:
    bucket = schemas["resource", "google_storage_bucket"]
    assert bucket.attributes["name"].mode == "required"
    assert bucket.attributes["url"].mode == "computed"
    assert bucket.attributes["force_destroy"].type == "bool"
    assert bucket.blocks["lifecycle_rule"].most == 0
    assert bucket.blocks["versioning"].most == 1
    assert bucket.blocks["lifecycle_rule"].block.blocks["condition"].block.attributes["matches_prefix"].type == [
        "list",
        "string",
    ]


def test_documented_values_are_in_the_schema(schemas: Schemas) -> None:
    service = schemas["resource", "google_cloud_run_v2_service"]
    assert "INGRESS_TRAFFIC_INTERNAL_ONLY" in service.attributes["ingress"].values


def test_a_schema_comes_back_from_its_file_as_it_went(tmp_path: Path) -> None:
    SchemaFile.write(tmp_path / "s.sqlite", {("resource", "google_bucket"): BUCKET}, "1.2.3")
    file = SchemaFile(tmp_path / "s.sqlite")
    assert file.version() == "1.2.3"
    assert file.block("resource", "google_bucket") == BUCKET
    with pytest.raises(KeyError):
        file.block("resource", "google_nothing")


def test_a_new_objects_computed_values_are_unknown_until_it_is_made() -> None:
    state = planned_state(BUCKET, {"name": "b"}, None, {"project": "p"})
    assert state["project"] == "p"
    assert state["url"] is UNKNOWN
    assert state["storage_class"] is None


def test_a_second_plan_keeps_what_was_computed() -> None:
    first = planned_state(BUCKET, {"name": "b"}, None, {"project": "p"})
    made = filled(BUCKET, first, "seed", {"url": "gs://{name}"}, {"project": "p"})
    assert made["url"] == "gs://b"
    assert planned_state(BUCKET, {"name": "b"}, made, {"project": "p"}) == made


def test_made_up_values_are_the_same_every_time() -> None:
    first = planned_state(BUCKET, {"name": "b"}, None, {})
    assert filled(BUCKET, first, "seed", {}, {}) == filled(BUCKET, first, "seed", {}, {})


def test_the_providers_labels_are_on_every_resource() -> None:
    state = planned_state(BUCKET, {"name": "b", "labels": {"a": "1"}}, None, {"default_labels": {"b": "2"}})
    assert state["effective_labels"] == {"a": "1", "b": "2"}


def test_an_argument_that_can_not_change_in_place_replaces_the_object() -> None:
    assert replaced_by({"name": "new", "url": "x"}, {"name": "old", "url": "y"}) == ["name"]
    assert replaced_by({"name": "new"}, None) == []


def test_a_value_outside_the_documented_ones_and_a_read_only_argument_are_found() -> None:
    findings = list(check(BUCKET, {"name": "b", "storage_class": "COLDEST", "url": "gs://x"}))
    assert sorted(finding.path for finding in findings) == [("storage_class",), ("url",)]


def test_the_cloud_remembers_finds_and_forgets_objects(tmp_path: Path) -> None:
    cloud, state = Cloud(tmp_path), {"id": "b", "name": "b"}
    assert not cloud.has("google_storage_bucket", state)
    cloud.put("google_storage_bucket", state)
    assert cloud.has("google_storage_bucket", state)
    assert cloud.find("google_storage_bucket", {"name": "b"}) == state
    assert cloud.find("google_storage_bucket", {"name": "c"}) is None
    assert cloud.objects() == ["google_storage_bucket b"]
    cloud.remove("google_storage_bucket", state)
    assert cloud.objects() == []


def test_two_objects_of_a_type_have_two_identities() -> None:
    assert identity("google_storage_bucket", BUCKET, {"name": "a"}, "p") == "p/storage_bucket/a"
    assert identity("google_storage_bucket", BUCKET, {"name": "b"}, "p") != "p/storage_bucket/a"


def test_states_and_references_to_them_become_the_same_local_file(tmp_path: Path) -> None:
    settings = {"bucket": "state", "prefix": "caudal/data"}
    document = {
        "terraform": {"backend": {"gcs": settings}},
        "data": {"terraform_remote_state": {"data": {"backend": "gcs", "config": {**settings, "workspace": "x"}}}},
    }
    local = with_local_states(document, tmp_path)
    reference = local["data"]["terraform_remote_state"]["data"]
    assert reference["backend"] == "local"
    assert reference["config"]["path"] == local["terraform"]["backend"]["local"]["path"]


def test_stacks_are_taken_after_those_that_they_need(tmp_path: Path) -> None:
    manifest = (
        '{"stacks": {"c": {"dependencies": ["b"]}, "a": {"dependencies": []}, "b": {"dependencies": ["a"]}}}'
    )
    (tmp_path / "manifest.json").write_text(manifest)
    assert list(dependencies(tmp_path)) == ["a", "b", "c"]
    assert list(dependencies(tmp_path, ["b"])) == ["a", "b"]
