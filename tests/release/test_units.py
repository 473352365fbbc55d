"""What a unit is built from, and when its digest changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from caudal.errors import UsageError
from pipeline.release.archive import build_archive
from pipeline.release.build import base_images, build_context
from pipeline.release.units import Unit, all_units, choose_units


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A copy of what units are built from, to change at will."""
    for folder in ("services", "libs", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__", "tests", "*.pyc")
        shutil.copytree(repository / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


def contents(root: Path) -> dict[str, str]:
    return {unit.name: unit.content() for unit in all_units(root)}


def changed(root: Path, before: dict[str, str]) -> set[str]:
    return {name for name, content in contents(root).items() if before.get(name) != content}


def test_a_change_of_a_service_changes_that_unit_alone(project: Path) -> None:
    before = contents(project)
    (project / "services" / "monitor" / "step.py").open("a").write("# changed\n")
    assert changed(project, before) == {"monitor"}


def test_a_change_of_the_library_changes_every_unit_that_has_it(project: Path) -> None:
    before = contents(project)
    (project / "libs" / "caudal" / "step.py").open("a").write("# changed\n")
    assert changed(project, before) == set(before) - {"mlflow_server"}


def test_a_change_of_a_lock_changes_the_unit_that_it_pins(project: Path) -> None:
    before = contents(project)
    (project / "requirements" / "batch_scoring.txt").open("a").write("# changed\n")
    assert changed(project, before) == {"batch_scoring"}


def test_tests_declarations_and_compiled_files_change_no_unit(project: Path) -> None:
    before = contents(project)
    monitor = project / "services" / "monitor"
    (monitor / "access.yaml").open("a").write("# changed\n")
    (monitor / "tests").mkdir()
    (monitor / "tests" / "test_x.py").write_text("")
    (monitor / "__pycache__").mkdir()
    (monitor / "__pycache__" / "step.pyc").write_bytes(b"1")
    assert changed(project, before) == set()


def test_a_renamed_file_changes_the_unit(project: Path) -> None:
    before = contents(project)
    (project / "services" / "monitor" / "quality.py").rename(project / "services" / "monitor" / "qualities.py")
    assert changed(project, before) == {"monitor"}


def test_an_unknown_unit_is_named_with_those_that_there_are(repository: Path) -> None:
    with pytest.raises(UsageError, match="monitor"):
        choose_units(repository, ("monitoring",))


def test_a_functions_zip_is_the_same_bytes_wherever_it_is_made(repository: Path, project: Path) -> None:
    here = build_archive(Unit("ingest_function", repository))
    for path in project.rglob("*"):
        path.touch()
    assert build_archive(Unit("ingest_function", project)) == here


def test_a_functions_zip_is_laid_out_as_google_builds_it(repository: Path, tmp_path: Path) -> None:
    archive = zipfile.ZipFile(BytesIO(build_archive(Unit("ingest_function", repository))))
    names = set(archive.namelist())
    assert {"main.py", "requirements.txt", "ingest_function/step.py", "caudal/step.py"} <= names
    assert {name.split("/")[0] for name in names} == {"main.py", "requirements.txt", "ingest_function", "caudal"}
    assert b"--hash=sha256:" in archive.read("requirements.txt")
    archive.extractall(tmp_path)
    # As the functions framework loads it: by its path, with its folder in front of everything else.
    program = (
        "import functions_framework, sys; sys.path.insert(0, '.');"
        "client = functions_framework.create_app('ingest', 'main.py').test_client();"
        "print(client.post('/', json={}).status_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.strip() == "400", done.stderr


@pytest.mark.parametrize("name", ["batch_scoring", "monitor", "trainer"])
def test_a_job_starts_from_its_build_context_alone(repository: Path, name: str) -> None:
    with build_context(Unit(name, repository)) as context:
        path = f"{context / 'services'}:{context / 'libs'}"
        done = subprocess.run(
            [sys.executable, "-m", name, "--help"],
            cwd=context,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert "--config" in done.stdout


def test_every_dockerfile_copies_what_its_context_has(repository: Path) -> None:
    for unit in all_units(repository):
        if unit.kind == "zip":
            continue
        lines = (repository / "services" / unit.name / "Dockerfile").read_text().splitlines()
        copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from=" not in line]
        with build_context(unit) as context:
            for source in (source for copy in copies for source in copy if not source.startswith("--")):
                assert (context / source).exists(), f"{unit.name}: {source}"


# Google publishes no versions of it; a build starts from the digest that it has then, and release.json says which.
UNVERSIONED = {"gcr.io/dataflow-templates-base/python311-template-launcher-base:latest"}
# Dataflow's boot program sets up the worker as root.
AS_ROOT = {"etl_beam"}


def test_every_image_has_exact_bases_and_does_not_run_as_root(repository: Path) -> None:
    for unit in all_units(repository):
        if unit.kind == "zip":
            continue
        text = (repository / "services" / unit.name / "Dockerfile").read_text()
        for base in base_images(unit) - UNVERSIONED:
            tag = base.partition(":")[2]
            assert tag.count(".") >= 2 or "@sha256:" in base, f"{unit.name}: {base} may become another image"
        users = [line.split()[1].split(":")[0] for line in text.splitlines() if line.startswith("USER ")]
        if unit.name not in AS_ROOT:
            assert users, unit.name
            assert users[-1] not in ("root", "0"), unit.name
