"""Builds the units of a release, each only if its content was not built before.

An image is tagged with its content's digest, so the registry itself knows what is built: the same content gives
the same image, and a unit that did not change keeps its digest from release to release.

A Dockerfile names its base images by tags, which may move. A build looks up where they point, starts from those
digests, and labels the image with them: what an image was built from can be told however long ago that was.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
BASES_LABEL = "caudal.bases"


@dataclass(frozen=True)
class Built:
    """What became of a unit: its digest, and whether it had to be built.

    Attributes:
        bases: the digests of the images that it was built from, by their names in its Dockerfile.
    """

    unit: str
    content: str
    digest: str
    fresh: bool
    bases: Mapping[str, str] = field(default_factory=dict)


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
        self._found: dict[str, str] = {}

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
            return Built(unit.name, content, there, False, self._bases_of(self._names.image(unit.name, there)))
        bases = {base: self._base(base) for base in sorted(base_images(unit))}
        with build_context(unit, bases) as context, tempfile.TemporaryDirectory() as folder:
            metadata = Path(folder) / "metadata.json"
            self._run(build_command(unit, content, self._commit, bases, tag, context, metadata))
            digest = str(json.loads(metadata.read_text())["containerimage.digest"])
        return Built(unit.name, content, digest, True, bases)

    def _base(self, reference: str) -> str:
        """The digest of a base image: looked up once, so that all units of a release start from the same."""
        _, _, said = reference.partition("@")
        found = said or self._found.get(reference) or self._digest(reference)
        if not found:
            raise CommandFailed(
                f"there is no digest of the base image {reference}",
                where="docker buildx imagetools inspect",
                mend="see that its registry can be reached, and that it still has this tag",
            )
        self._found[reference] = found
        return found

    def _bases_of(self, image: str) -> dict[str, str]:
        """What an image was built from, as its label says; nothing where it has no such label."""
        inspect = ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Image}}", image]
        labels = json.loads(self._run(inspect)).get("config", {}).get("Labels") or {}
        bases: dict[str, str] = json.loads(labels.get(BASES_LABEL, "{}"))
        return bases

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


def build_command(
    unit: Unit, content: str, commit: str, bases: Mapping[str, str], tag: str, context: Path, metadata: Path
) -> list[str]:
    """How docker is called.

    No provenance in the image: Vertex AI and Dataflow pull plain images; CI attests to it aside.
    """
    return [
        "docker", "buildx", "build",
        "--platform", PLATFORM,
        "--provenance=false", "--sbom=false",
        "--build-arg", f"CAUDAL_UNIT_DIGEST={baked(content)}",
        "--label", f"org.opencontainers.image.revision={commit}",
        "--label", f"{BASES_LABEL}={json.dumps(bases, sort_keys=True)}",
        "--file", str(context / "services" / unit.name / "Dockerfile"),
        "--tag", tag,
        "--metadata-file", str(metadata),
        "--push", str(context),
    ]  # fmt: skip


@contextmanager
def build_context(unit: Unit, bases: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A folder with what the unit is built from, and nothing else.

    Args:
        bases: digests of base images; the Dockerfile in the folder names them beside the tags.
    """
    with tempfile.TemporaryDirectory(prefix="caudal-build-") as folder:
        for name, path in unit.files().items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if bases:
            dockerfile = Path(folder) / "services" / unit.name / "Dockerfile"
            dockerfile.write_text(pin(dockerfile.read_text(encoding="utf-8"), bases), encoding="utf-8")
        yield Path(folder)


def pin(dockerfile: str, bases: Mapping[str, str]) -> str:
    """A Dockerfile whose base images are named by tag and digest, of which docker heeds the digest.

    Not by build arguments: `COPY --from` takes none.
    """

    def by_digest(found: re.Match[str]) -> str:
        base = found[1] or found[2]
        return found[0] if "@" in base or base not in bases else f"{found[0]}@{bases[base]}"

    return _FROM.sub(by_digest, dockerfile)


def base_images(unit: Unit) -> set[str]:
    """The images that a unit's Dockerfile starts from or copies from, its own stages aside."""
    text = (unit.root / "services" / unit.name / "Dockerfile").read_text(encoding="utf-8")
    stages = set(_STAGE.findall(text))
    return {first or second for first, second in _FROM.findall(text)} - stages
