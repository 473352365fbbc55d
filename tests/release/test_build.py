"""Building, copying and publishing a release, with docker and Cloud Storage stood in for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from caudal.cloud_names import CloudNames
from caudal.contract import Contract
from caudal.environment import load_environment
from infra.release import Release, ReleaseError
from pipeline.cli.release import command
from pipeline.release.archive import archive_digest, build_archive
from pipeline.release.build import Builder, pin
from pipeline.release.commands import CommandFailed, run
from pipeline.release.publish import publish, start_argument, start_run
from pipeline.release.units import Unit, all_units
from pipeline.workflow.api import ApiCall
from tests.workflow.cloud import Buckets

DIGEST = "sha256:" + "a" * 64
BASE = "sha256:" + "b" * 64
PYTHON = "python:3.11.14-slim-bookworm"


class Docker:
    """Answers as docker buildx does: a registry of images by reference, and the labels of those that it built."""

    def __init__(self, images: dict[str, str] | None = None) -> None:
        self.images = {PYTHON: BASE, **(images or {})}
        self.labels: dict[str, str] = {}
        self.calls: list[list[str]] = []
        self.built_from: list[tuple[str, str]] = []

    def __call__(self, arguments: Sequence[str]) -> str:
        call = list(arguments)
        self.calls.append(call)
        assert call[:2] == ["docker", "buildx"]
        if call[2:4] == ["imagetools", "inspect"]:
            if call[call.index("--format") + 1] == "{{json .Image}}":
                return json.dumps({"architecture": "amd64", "config": {"Labels": self.labels}})
            if call[-1] not in self.images:
                raise CommandFailed("it ended with status 1")
            return self.images[call[-1]] + "\n"
        if call[2] == "build":
            Path(call[call.index("--metadata-file") + 1]).write_text(json.dumps({"containerimage.digest": DIGEST}))
            assert (Path(call[-1]) / "libs" / "caudal" / "step.py").is_file()
            given = [call[at + 1].split("=", 1) for at, word in enumerate(call) if word == "--label"]
            self.labels = dict(given)
            dockerfile = Path(call[call.index("--file") + 1]).read_text()
            self.built_from += re.findall(r"^FROM (\S+)|^COPY --from=(\S+)", dockerfile, re.MULTILINE)
            self.images[call[call.index("--tag") + 1]] = DIGEST
        return ""

    def verbs(self) -> list[str]:
        return [call[2] if call[2] != "imagetools" else call[3] for call in self.calls]


@pytest.fixture
def names(repository: Path) -> CloudNames:
    cloud = load_environment(repository / "environments" / "dev.yaml").cloud
    assert cloud is not None
    return CloudNames(cloud)


def test_a_unit_is_built_once_for_its_content(repository: Path, names: CloudNames) -> None:
    docker, unit = Docker(), Unit("monitor", repository)
    builder = Builder(names, Buckets(), "abc", docker)
    (first,) = builder.build([unit])
    (second,) = builder.build([unit])
    assert (first.fresh, second.fresh) == (True, False)
    assert first.digest == second.digest == DIGEST
    assert docker.verbs() == ["inspect", "inspect", "build", "inspect", "inspect"]


def test_an_image_is_plain_and_knows_its_content(repository: Path, names: CloudNames) -> None:
    docker, unit = Docker(), Unit("monitor", repository)
    Builder(names, Buckets(), "abc", docker).build([unit])
    (build,) = [call for call in docker.calls if call[2] == "build"]
    assert "--provenance=false" in build
    assert f"CAUDAL_UNIT_DIGEST={unit.content()[:16]}" in build
    assert (
        build[build.index("--tag") + 1] == names.image("monitor", "").removesuffix("@") + ":" + unit.content()[:16]
    )


def test_a_zip_is_stored_under_its_hash_once(repository: Path, names: CloudNames) -> None:
    buckets, unit = Buckets(), Unit("ingest_function", repository)
    builder = Builder(names, buckets, "abc", Docker())
    (first,) = builder.build([unit])
    (second,) = builder.build([unit])
    assert (first.fresh, second.fresh) == (True, False)
    data = build_archive(unit)
    assert first.digest == archive_digest(data)
    assert (
        buckets.read(f"gs://{names.bucket('releases')}/{names.archive('ingest_function', first.digest)}") == data
    )


def test_a_build_starts_from_the_digests_to_which_tags_point_then(repository: Path, names: CloudNames) -> None:
    beam = "apache/beam_python3.11_sdk:2.77.0"
    launcher = "gcr.io/dataflow-templates-base/python311-template-launcher-base:latest"
    others = {beam: "sha256:" + "c" * 64, launcher: "sha256:" + "d" * 64}
    docker = Docker(others)
    (built,) = Builder(names, Buckets(), "abc", docker).build([Unit("etl_beam", repository)])
    assert built.bases == {PYTHON: BASE, **others}
    assert docker.built_from == [
        (f"{PYTHON}@{BASE}", ""),
        (f"{PYTHON}@{BASE}", ""),
        ("", f"{beam}@{others[beam]}"),
        ("", f"{launcher}@{others[launcher]}"),
        ("", "packages"),
    ]


def test_an_image_that_is_not_built_again_tells_what_it_was_built_from(
    repository: Path, names: CloudNames
) -> None:
    docker, unit = Docker(), Unit("monitor", repository)
    Builder(names, Buckets(), "abc", docker).build([unit])
    docker.images[PYTHON] = "sha256:" + "e" * 64  # the tag moved
    (again,) = Builder(names, Buckets(), "abc", docker).build([unit])
    assert (again.fresh, again.bases) == (False, {PYTHON: BASE})
    docker.labels = {}
    (unlabelled,) = Builder(names, Buckets(), "abc", docker).build([unit])
    assert unlabelled.bases == {}


def test_units_of_one_release_start_from_the_same_base(repository: Path, names: CloudNames) -> None:
    docker = Docker()
    Builder(names, Buckets(), "abc", docker).build([Unit("monitor", repository), Unit("trainer", repository)])
    assert [call[-1] for call in docker.calls].count(PYTHON) == 1


def test_a_base_image_that_no_registry_has_stops_the_build(repository: Path, names: CloudNames) -> None:
    docker = Docker()
    del docker.images[PYTHON]
    with pytest.raises(CommandFailed, match=f"no digest of the base image {PYTHON}"):
        Builder(names, Buckets(), "abc", docker).build([Unit("monitor", repository)])
    assert "build" not in docker.verbs()


def test_a_base_image_that_is_named_by_its_digest_is_left_as_it_is() -> None:
    text = f"FROM --platform=linux/amd64 a:1@{BASE} AS one\nFROM b:2\nCOPY --from=one /x /x\n"
    assert pin(text, {f"a:1@{BASE}": BASE, "b:2": DIGEST}) == text.replace("b:2", f"b:2@{DIGEST}")


def test_the_release_says_what_each_unit_was_built_from(
    repository: Path, names: CloudNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.setattr("caudal.backends.open_storage", lambda _: Buckets())
    monkeypatch.setattr(Builder.__init__, "__defaults__", (Docker(),))
    monkeypatch.setenv("CAUDAL_RELEASE", str(tmp_path / "release.json"))
    before = {"trainer": "f" * 64, "monitor": "f" * 64}
    (tmp_path / "release.json").write_text(
        json.dumps({"release": 1, "commit": "a", "units": {"trainer": DIGEST}, "contents": before, "bases": {}})
    )
    told = CliRunner().invoke(
        command, ["--env", "dev", "--unit", "monitor", "--unit", "ingest_function"], catch_exceptions=False
    )
    assert told.exit_code == 0
    written = json.loads((tmp_path / "release.json").read_text())
    built = {name: Unit(name, repository).content() for name in ("monitor", "ingest_function")}
    assert written["contents"] == {"trainer": "f" * 64, **built}
    assert written["bases"] == {"monitor": {PYTHON: BASE}}


def test_another_environment_gets_the_same_bytes(repository: Path, names: CloudNames) -> None:
    staging = load_environment(repository / "environments" / "staging.yaml").cloud
    assert staging is not None
    there, buckets, docker = CloudNames(staging), Buckets(), Docker()
    function = Unit("ingest_function", repository)
    (built,) = Builder(names, buckets, "abc", docker).build([function])
    digests = {"ingest_function": built.digest, "monitor": DIGEST}
    docker.calls.clear()
    Builder(there, buckets, "abc", docker).copy(digests, [function, Unit("monitor", repository)], names)
    assert docker.verbs() == ["inspect", "create"]
    assert docker.calls[-1][-1] == names.image("monitor", DIGEST)
    uri = f"gs://{there.bucket('releases')}/{there.archive('ingest_function', built.digest)}"
    assert archive_digest(buckets.read(uri)) == built.digest


def test_a_machine_without_docker_is_told_so(repository: Path, names: CloudNames) -> None:
    def absent(_: Sequence[str]) -> str:
        return run(["no-such-program"])

    with pytest.raises(CommandFailed, match="there is no program"):
        Builder(names, Buckets(), "abc", absent).build([Unit("monitor", repository)])


def test_a_dry_run_tells_every_unit_and_calls_nothing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    told = CliRunner().invoke(command, ["--env", "dev", "--dry-run", "--json"], catch_exceptions=False)
    assert {row["unit"]: row["content"] for row in json.loads(told.output)["units"]} == {
        unit.name: unit.content() for unit in all_units(repository)
    }


def test_publishing_names_configuration_images_and_template(
    repository: Path, names: CloudNames, bank_contract: Contract
) -> None:
    environment = load_environment(repository / "environments" / "dev.yaml")
    buckets = Buckets()
    content = Unit("trainer", repository).content()
    release = Release(
        release=1,
        commit="abc",
        units={"etl_beam": DIGEST, "trainer": BASE, "monitor": DIGEST},
        contents={"trainer": content},
    )
    done = publish(buckets, bank_contract, environment, names, release)
    deployed = buckets.read_json(done.deployed)
    assert deployed == {
        "config": done.config,
        "commit": "abc",
        "units": {
            "etl_beam": {
                "image": names.image("etl_beam", DIGEST),
                "template": names.template_uri("etl_beam", DIGEST),
            },
            "trainer": {"image": names.image("trainer", BASE), "digest": content[:16]},
        },
    }
    assert buckets.read(f"{done.config}/contract.yaml").decode() == bank_contract.text
    again = publish(buckets, bank_contract, environment, names, release)
    assert again == done


def test_a_release_that_does_not_say_what_the_trainer_is_built_from_is_not_published(
    repository: Path, names: CloudNames, bank_contract: Contract
) -> None:
    environment = load_environment(repository / "environments" / "dev.yaml")
    release = Release(release=1, commit="abc", units={"etl_beam": DIGEST, "trainer": BASE})
    buckets = Buckets()
    with pytest.raises(ReleaseError, match="no content of 'trainer'"):
        publish(buckets, bank_contract, environment, names, release)
    assert not buckets.exists(f"{environment.places.artifacts}/config/deployed/bank_marketing.json")


def test_the_run_after_a_deployment_is_one_for_a_release_and_period(repository: Path) -> None:
    environment = load_environment(repository / "environments" / "dev.yaml")
    morning, evening = datetime(2026, 11, 23, 7, tzinfo=UTC), datetime(2026, 11, 23, 19, tzinfo=UTC)
    first = start_argument(environment, {"a": DIGEST}, "gs://c/1", morning)
    assert first == start_argument(environment, {"a": DIGEST}, "gs://c/1", evening)
    assert first["as_of"] == "2026-11-23T00:00:00Z"
    assert first["id"].startswith("20261123T000000Z-")
    assert first["reason"] == "code"
    assert first["id"] != start_argument(environment, {"a": BASE}, "gs://c/1", morning)["id"]


def test_a_run_is_started_as_the_api_describes(names: CloudNames) -> None:
    posted: list[tuple[str, Mapping[str, Any]]] = []

    def post(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        posted.append((url, body))
        return {"name": "executions/1"}

    assert start_run(names, "bank_marketing", {"reason": "code"}, post) == "executions/1"
    call = ApiCall(
        "workflowexecutions.v1",
        "workflowexecutions.projects.locations.workflows.executions.create",
        {"parent": f"projects/{names.project}/locations/{names.region}/workflows/caudal-bank-marketing"},
        body=posted[0][1],
    )
    call.check()
    assert posted[0][0] == call.url
    assert json.loads(posted[0][1]["argument"]) == {"reason": "code"}
