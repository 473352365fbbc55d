"""Vertex AI's Model Registry follows the ledger; the client library's own types carry the requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1.types import Model

from caudal.promotions import Promotions
from caudal.storage.files import FileStorage, file_uri
from caudal.vertex_models import VERSION_LABEL, VertexModels

IMAGE = "europe-west1-docker.pkg.dev/p/units/serving@sha256:" + "0" * 64


@dataclass
class Registry:
    """What `ModelServiceClient` does with versions and aliases, in memory."""

    models: dict[str, list[Model]] = field(default_factory=dict)
    uploads: int = 0

    def list_model_versions(self, request: dict[str, str]) -> list[Model]:
        if request["name"] not in self.models:
            raise NotFound("no such model")
        return self.models[request["name"]]

    def upload_model(self, request: Any) -> Any:
        self.uploads += 1
        name = request.parent_model or f"{request.parent}/models/{request.model_id}"
        assert bool(request.parent_model) == (name in self.models), (
            "a first version has an id, a later one a parent"
        )
        versions = self.models.setdefault(name, [])
        model = Model(request.model)
        model.version_id = str(len(versions) + 1)
        versions.append(model)
        return self

    def result(self, timeout: float) -> None:
        assert timeout > 0

    def merge_version_aliases(self, request: dict[str, Any]) -> None:
        name, version_id = request["name"].split("@")
        version = next(v for v in self.models[name] if v.version_id == version_id)
        for alias in request["version_aliases"]:
            if alias.startswith("-"):
                version.version_aliases.remove(alias[1:])
            else:
                assert all(alias not in other.version_aliases for other in self.models[name]), "an alias names one"
                version.version_aliases.append(alias)


@pytest.fixture
def ledger(tmp_path: Path) -> Promotions:
    return Promotions(FileStorage(tmp_path), file_uri(tmp_path / "ledger"))


def promote(ledger: Promotions, version: str, role: Any = "champion") -> None:
    ledger.promote(
        version=version, model_type="xgboost", package=f"gs://models/{version}",
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
        by="run", reason="new_data", snapshot="s", role=role, request=version,
    )  # fmt: skip


def aliases(registry: Registry) -> dict[str, str]:
    (versions,) = registry.models.values()
    return {alias: v.labels[VERSION_LABEL] for v in versions for alias in v.version_aliases}


def test_versions_and_aliases_follow_the_ledger(ledger: Promotions) -> None:
    registry = Registry()
    models = VertexModels("p", "europe-west1", IMAGE, registry)
    models.follow("bank", ledger)
    assert registry.models == {}
    promote(ledger, "one")
    models.follow("bank", ledger)
    promote(ledger, "two", "challenger")
    models.follow("bank", ledger)
    assert aliases(registry) == {"champion": "one", "challenger": "two"}
    promote(ledger, "three")
    models.follow("bank", ledger)
    assert aliases(registry) == {"champion": "three"}
    ledger.roll_back(as_of=datetime(2026, 1, 2, tzinfo=UTC), by="ana", reason="")
    models.follow("bank", ledger)
    models.follow("bank", ledger)
    assert aliases(registry) == {"champion": "one"}
    assert registry.uploads == 3
    assert list(registry.models) == ["projects/p/locations/europe-west1/models/bank"]
    (versions,) = registry.models.values()
    assert [v.artifact_uri for v in versions] == ["gs://models/one", "gs://models/two", "gs://models/three"]
    assert {v.container_spec.image_uri for v in versions} == {IMAGE}
