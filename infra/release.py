"""What is deployed: release.json, which `caudal release` writes on a laptop exactly as CI does.

    {"release": 1, "commit": "<git commit>", "units": {"trainer": "sha256:…", "ingest_function": "sha256:…"},
     "contents": {"trainer": "…", "ingest_function": "…"}}

A unit's digest is that of its image, or of the zip of a function's sources. Digests are the same in every
environment's registry, so the file that was tried in dev is the file that goes to prod.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from caudal.errors import CaudalError
from caudal.yaml_document import Section

RELEASE_FILE = "release.json"
RELEASE_VARIABLE = "CAUDAL_RELEASE"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Content = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ReleaseError(CaudalError):
    """There is no release to deploy, or it lacks a unit."""

    exit_status = 2


class Release(Section):
    """The digests of one release.

    Attributes:
        commit: the git commit that everything was built from.
        units: digest by unit.
        contents: the digest of what each unit is built from (`Unit.content`).
        bases: digests of the base images that each unit's image was built from, for the record.
    """

    release: Literal[1]
    commit: str
    units: dict[str, Digest]
    contents: dict[str, Content] = Field(default_factory=dict)
    bases: dict[str, dict[str, Digest]] = Field(default_factory=dict)

    def digest(self, unit: str) -> str:
        """The digest of a unit.

        Raises:
            ReleaseError: the release has none.
        """
        return self._of(unit, self.units, "digest")

    def content(self, unit: str) -> str:
        """The digest of what a unit is built from.

        Raises:
            ReleaseError: the release does not say it.
        """
        return self._of(unit, self.contents, "content")

    def _of(self, unit: str, by_unit: dict[str, str], what: str) -> str:
        try:
            return by_unit[unit]
        except KeyError:
            raise ReleaseError(
                f"the release of commit {self.commit} has no {what} of '{unit}'",
                where=RELEASE_FILE,
                mend=f"build it: caudal release --env ENV --unit {unit}",
            ) from None


def release_path(root: Path) -> Path:
    """Where the release is: CAUDAL_RELEASE, else release.json in the project's folder."""
    return Path(os.environ.get(RELEASE_VARIABLE) or root / RELEASE_FILE)


def load_release(path: Path) -> Release | None:
    """Reads a release; None where there is none yet, which is so before the first one is built.

    Raises:
        ReleaseError: the file was named but is missing, or is not as it must be.
    """
    try:
        return Release.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if os.environ.get(RELEASE_VARIABLE):
            raise ReleaseError(
                f"{RELEASE_VARIABLE} names a file that is not there",
                where=str(path),
                mend="write it with: caudal release --env ENV",
            ) from None
        return None
    except (ValidationError, json.JSONDecodeError) as error:
        raise ReleaseError(
            f"this is no release: {str(error).splitlines()[0]}",
            where=str(path),
            mend="write it anew with: caudal release --env ENV",
        ) from error
