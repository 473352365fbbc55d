"""Vertex AI's Model Registry, which follows the promotion ledger.

One Vertex model a contract; each package that was promoted is a version of it, found by its label, and the aliases
`champion` and `challenger` are where the ledger says. Vertex's own version numbers are no identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caudal.environment import VertexRegistry
    from caudal.promotions import Promotion, Promotions

VERSION_LABEL = "caudal_version"
ALIASES = ("champion", "challenger")
_PATIENCE_SECONDS = 1800


class VertexModels:
    """The Model Registry of one project and region.

    Args:
        image: the serving image that a version is registered with; Vertex asks for one.
        client: `ModelServiceClient`, or what stands in for it.
    """

    def __init__(self, project: str, region: str, image: str, client: Any) -> None:
        self._parent = f"projects/{project}/locations/{region}"
        self._image = image
        self._client = client

    @staticmethod
    def of(settings: VertexRegistry) -> VertexModels:
        """The registry that an environment names."""
        from google.cloud.aiplatform_v1 import ModelServiceClient

        endpoint = f"{settings.region}-aiplatform.googleapis.com"
        client = ModelServiceClient(client_options={"api_endpoint": endpoint})
        return VertexModels(settings.project, settings.region, settings.image, client)

    def follow(self, contract: str, promotions: Promotions) -> None:
        """Registers what the ledger calls champion and challenger, and sets the aliases."""
        wanted = dict(zip(ALIASES, (promotions.head(), promotions.challenger()), strict=True))
        for entry in wanted.values():
            if entry is not None and self._find(contract, entry.version) is None:
                self._upload(contract, entry)
        for alias, entry in wanted.items():
            self._point(contract, alias, entry)

    def _point(self, contract: str, alias: str, entry: Promotion | None) -> None:
        """An alias names one version: it is taken from any other before it is given."""
        for version in self._versions(contract):
            mine = entry is not None and version.labels.get(VERSION_LABEL) == entry.version
            if alias in version.version_aliases and not mine:
                self._merge(contract, version.version_id, f"-{alias}")
        found = self._find(contract, entry.version) if entry is not None else None
        if found is not None and alias not in found.version_aliases:
            self._merge(contract, found.version_id, alias)

    def _merge(self, contract: str, version_id: str, alias: str) -> None:
        name = f"{self._name(contract)}@{version_id}"
        self._client.merge_version_aliases(request={"name": name, "version_aliases": [alias]})

    def _find(self, contract: str, version: str) -> Any | None:
        return next((v for v in self._versions(contract) if v.labels.get(VERSION_LABEL) == version), None)

    def _versions(self, contract: str) -> list[Any]:
        from google.api_core.exceptions import NotFound

        try:
            return list(self._client.list_model_versions(request={"name": self._name(contract)}))
        except NotFound:
            return []

    def _upload(self, contract: str, entry: Promotion) -> None:
        request = upload_request(self._parent, contract, entry, self._image, first=not self._versions(contract))
        self._client.upload_model(request=request).result(timeout=_PATIENCE_SECONDS)

    def _name(self, contract: str) -> str:
        return f"{self._parent}/models/{model_id(contract)}"


def model_id(contract: str) -> str:
    """The Vertex model's id: a contract's name fits its rules."""
    return contract


def upload_request(parent: str, contract: str, entry: Promotion, image: str, *, first: bool) -> Any:
    """The request that registers a package as a version.

    Args:
        first: the model does not exist yet, and its id is given; later versions name it as their parent.
    """
    from google.cloud.aiplatform_v1 import UploadModelRequest
    from google.cloud.aiplatform_v1.types import Model, ModelContainerSpec

    model = Model(
        display_name=contract,
        version_description=entry.reason,
        artifact_uri=entry.package,
        container_spec=ModelContainerSpec(image_uri=image),
        labels={VERSION_LABEL: entry.version, "snapshot": entry.snapshot},
    )
    if first:
        return UploadModelRequest(parent=parent, model_id=model_id(contract), model=model)
    return UploadModelRequest(parent=parent, parent_model=f"{parent}/models/{model_id(contract)}", model=model)
