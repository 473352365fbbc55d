"""Builds the units of a release, each only if its content was not built before.

An image is tagged with its content's digest, so the registry itself knows what is built: the same content gives
the same image, and a unit that did not change keeps its digest from release to release.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caudal.storage import Storage, join
from pipeline.release.archive import archive_digest, build_archive
from pipeline.release.commands import CommandFailed, Runner, run
from pipeline.release.units import Unit, baked

if TYPE_CHECKING:
    from caudal.cloud_names import CloudNames

_FROM = re.compile(r"^FROM\s+(?:--platform=\S+\s+)?(\S+)|^COPY\s+--from=(\S+)", re.MULTILINE | re.IGNORECASE)
_STAGE = re.compile(r"^FROM\s+.*\sAS\s+(\S+)", re.MULTILINE | re.IGNORECASE)
PLATFORM = "linux/amd64"


@dataclass(frozen=True)
class Built:
    """What became of a unit: its digest, and whether it had to be built."""

    unit: str
    content: str
    digest: str
    fresh: bool


class Builder:
    """Builds into one environment's registry and releases bucket.

    Args:
        names: of the environment's project.
        storage: where zips go.
        commit: what the images say that they were built from; it enters no digest of content.
        runner: starts docker.
    """

    def __init__(self, names: CloudNames, storage: Storage, commit: str, runner: Runner = run) -> None:
        self._names = names
        self._storage = storage
        self._commit = commit
        self._run = runner

    def build(self, units: Iterable[Unit], told: Callable[[Built], None] = lambda _: None) -> list[Built]:
        """Builds what has to be built.

        Raises:
            CommandFailed: docker is missing, or a build failed; what was built before stays built.
        """
        built = []
        for unit in units:
            built.append(self._zip(unit) if unit.kind == "zip" else self._image(unit))
            told(built[-1])
        return built

    def bases(self, units: Iterable[Unit]) -> dict[str, str]:
        """The digests, as the registries have them now, of the images that builds start from."""
        references = {base for unit in units if unit.kind == "image" for base in base_images(unit)}
        found = {base: self._digest(base) for base in sorted(references)}
        return {base: digest for base, digest in found.items() if digest}

    def copy(self, digests: dict[str, str], units: Iterable[Unit], source: CloudNames) -> None:
        """Brings what was built for one environment to this one: the same bytes, so the same digests."""
        for unit in units:
            digest = digests[unit.name]
            if unit.kind == "zip":
                name = self._names.archive(unit.name, digest)
                there = join(f"gs://{source.bucket('releases')}", name)
                here = join(f"gs://{self._names.bucket('releases')}", name)
                if not self._storage.exists(here):
                    self._storage.write(here, self._storage.read(there))
            elif self._digest(self._names.image(unit.name, digest)) is None:
                # Without --prefer-index=false a list of one image would be made, with a digest of its own.
                tag = f"{self._repository(unit)}:{digest.removeprefix('sha256:')[:16]}"
                copy = ["docker", "buildx", "imagetools", "create", "--prefer-index=false", "--tag", tag]
                self._run([*copy, source.image(unit.name, digest)])

    def _zip(self, unit: Unit) -> Built:
        data = build_archive(unit)
        digest = archive_digest(data)
        uri = join(f"gs://{self._names.bucket('releases')}", self._names.archive(unit.name, digest))
        fresh = not self._storage.exists(uri)
        if fresh:
            self._storage.write(uri, data)
        return Built(unit.name, unit.content(), digest, fresh)

    def _image(self, unit: Unit) -> Built:
        content = unit.content()
        tag = f"{self._repository(unit)}:{baked(content)}"
        there = self._digest(tag)
        if there:
            return Built(unit.name, content, there, False)
        with build_context(unit) as context, tempfile.TemporaryDirectory() as folder:
            metadata = Path(folder) / "metadata.json"
            self._run(build_command(unit, content, self._commit, tag, context, metadata))
            digest = str(json.loads(metadata.read_text())["containerimage.digest"])
        return Built(unit.name, content, digest, True)

    def _repository(self, unit: Unit) -> str:
        return self._names.image(unit.name, "").removesuffix("@")

    def _digest(self, reference: str) -> str | None:
        """The digest of an image in a registry; None where there is no such image."""
        inspect = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", reference]
        try:
            return self._run(inspect).strip() or None
        except CommandFailed as error:
            if "there is no program" in error.what:
                raise
            return None


def check_build(unit: Unit, runner: Runner = run) -> None:
    """Builds a unit for nobody: it needs no registry and leaves nothing but a cache.

    Raises:
        CommandFailed: it does not build.
    """
    if unit.kind == "zip":
        build_archive(unit)
        return
    with build_context(unit) as context:
        dockerfile = str(context / "services" / unit.name / "Dockerfile")
        build = ["docker", "buildx", "build", "--platform", PLATFORM, "--output", "type=cacheonly"]
        runner([*build, "--file", dockerfile, str(context)])


def build_command(unit: Unit, content: str, commit: str, tag: str, context: Path, metadata: Path) -> list[str]:
    """How docker is called.

    No provenance in the image: Vertex AI and Dataflow pull plain images; CI attests to it aside.
    """
    return [
        "docker", "buildx", "build",
        "--platform", PLATFORM,
        "--provenance=false", "--sbom=false",
        "--build-arg", f"CAUDAL_UNIT_DIGEST={baked(content)}",
        "--label", f"org.opencontainers.image.revision={commit}",
        "--file", str(context / "services" / unit.name / "Dockerfile"),
        "--tag", tag,
        "--metadata-file", str(metadata),
        "--push", str(context),
    ]  # fmt: skip


@contextmanager
def build_context(unit: Unit) -> Iterator[Path]:
    """A folder with what the unit is built from, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="caudal-build-") as folder:
        for name, path in unit.files().items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        yield Path(folder)


def base_images(unit: Unit) -> set[str]:
    """The images that a unit's Dockerfile starts from or copies from, its own stages aside."""
    text = (unit.root / "services" / unit.name / "Dockerfile").read_text(encoding="utf-8")
    stages = set(_STAGE.findall(text))
    return {first or second for first, second in _FROM.findall(text)} - stages
