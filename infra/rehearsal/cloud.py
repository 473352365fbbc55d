"""The make-believe cloud: one file an object, so that duplicates, drift and left-overs can be seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.rehearsal.schema import Block

PROJECT_NUMBER = "123456789012"

_AT_LOCATION = "projects/{project}/locations/{location}/"
_AT_REGION = "projects/{project}/locations/{region}/"
_POOL = "/locations/global/workloadIdentityPools/{workload_identity_pool_id}"

# What the API computes, where something else refers to it.
COMPUTED: Mapping[str, Mapping[str, str]] = {
    "google_artifact_registry_repository": {
        "id": _AT_LOCATION + "repositories/{repository_id}",
        "name": "{repository_id}",
    },
    "google_bigquery_dataset": {"id": "projects/{project}/datasets/{dataset_id}"},
    "google_bigquery_table": {"id": "projects/{project}/datasets/{dataset_id}/tables/{table_id}"},
    "google_cloud_run_v2_job": {"id": _AT_LOCATION + "jobs/{name}"},
    "google_cloud_run_v2_service": {
        "id": _AT_LOCATION + "services/{name}",
        "uri": "https://{name}-" + PROJECT_NUMBER + ".{location}.run.app",
    },
    "google_cloud_scheduler_job": {"id": _AT_REGION + "jobs/{name}"},
    "google_cloudfunctions2_function": {
        "id": _AT_LOCATION + "functions/{name}",
        "url": "https://{location}-{project}.cloudfunctions.net/{name}",
    },
    "google_iam_workload_identity_pool": {
        "id": "projects/{project}" + _POOL,
        "name": "projects/" + PROJECT_NUMBER + _POOL,
    },
    "google_logging_project_sink": {
        "id": "projects/{project}/sinks/{name}",
        "writer_identity": "serviceAccount:service-" + PROJECT_NUMBER + "@gcp-sa-logging.iam.gserviceaccount.com",
    },
    "google_monitoring_notification_channel": {
        "id": "projects/{project}/notificationChannels/{digits}",
        "name": "{id}",
    },
    "google_service_account": {
        "email": "{account_id}@{project}.iam.gserviceaccount.com",
        "member": "serviceAccount:{email}",
        "id": "projects/{project}/serviceAccounts/{email}",
        "name": "{id}",
        "unique_id": "1{digits}",
    },
    "google_sql_database_instance": {"id": "{name}", "connection_name": "{project}:{region}:{name}"},
    "google_storage_bucket": {
        "id": "{name}",
        "url": "gs://{name}",
        "self_link": "https://www.googleapis.com/storage/v1/b/{name}",
    },
    "google_storage_bucket_object": {
        "id": "{bucket}-{name}",
        "output_name": "{name}",
        "self_link": "https://www.googleapis.com/storage/v1/b/{bucket}/o/{name}",
    },
    "google_workflows_workflow": {"id": _AT_REGION + "workflows/{name}"},
}


def identity(type_name: str, block: Block, state: Mapping[str, Any], project: str | None) -> str:
    """What tells one object of a type from another: its required texts, name and member."""
    values = [
        state[name]
        for name, attribute in block.attributes.items()
        if attribute.type == "string"
        and isinstance(state.get(name), str)
        and (attribute.mode == "required" or name in ("name", "member"))
        and name != "schedule"
    ]
    return "/".join([str(state.get("project") or project), type_name.removeprefix("google_"), *values])


class Cloud:
    """The objects that exist, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, type_name: str, identifier: object) -> Path:
        digest = hashlib.sha256(f"{type_name}/{identifier}".encode()).hexdigest()[:16]
        return self._folder / f"{type_name}-{digest}.json"

    def has(self, type_name: str, state: Mapping[str, Any]) -> bool:
        return self._path(type_name, state.get("id")).exists()

    def put(self, type_name: str, state: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(type_name, state.get("id")).write_text(json.dumps(state, default=str), encoding="utf-8")

    def remove(self, type_name: str, state: Mapping[str, Any]) -> None:
        self._path(type_name, state.get("id")).unlink(missing_ok=True)

    def find(self, type_name: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """The first object of a type that has the given values."""
        for path in sorted(self._folder.glob(f"{type_name}-*.json")):
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if all(state.get(name) == value for name, value in given.items()):
                return state
        return None

    def objects(self) -> list[str]:
        """`<type> <id>` of everything that exists."""
        return sorted(
            f"{path.name.rsplit('-', 1)[0]} {json.loads(path.read_text(encoding='utf-8')).get('id')}"
            for path in self._folder.glob("*.json")
        )
