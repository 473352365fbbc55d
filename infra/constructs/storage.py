"""Buckets and their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdktf_cdktf_provider_google.storage_bucket import StorageBucket
from cdktf_cdktf_provider_google.storage_managed_folder import StorageManagedFolder
from constructs import Construct

from infra.cdk import blocks
from infra.environments import Deployment


@dataclass(frozen=True)
class Expiry:
    """Objects whose names begin with one of the prefixes are deleted after so many days."""

    days: int
    prefixes: Sequence[str] = ()


class Bucket(Construct):
    """A bucket that nobody can open to the public, with uniform access and its accesses logged.

    Args:
        place: which bucket; see `CloudNames.bucket`.
        temporary: its objects can be made again: no versions, no soft delete, which would be paid for.
        expiries: what is deleted by itself.
        logged: whether accesses are logged; the bucket of the logs can't log its own.
    """

    def __init__(
        self,
        scope: Construct,
        place: str,
        deployment: Deployment,
        *,
        temporary: bool = False,
        expiries: Sequence[Expiry] = (),
        logged: bool = True,
    ) -> None:
        super().__init__(scope, place)
        names, cloud = deployment.names, deployment.cloud
        rules = [_deleted(expiry) for expiry in expiries]
        # Parts of uploads that were never finished can't be seen, and cost.
        rules.append({"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}})
        if not temporary:
            condition: Mapping[str, Any] = {
                "days_since_noncurrent_time": cloud.retention.noncurrent,
                "with_state": "ARCHIVED",
            }
            rules.append({"action": {"type": "Delete"}, "condition": condition})
        self.resource = StorageBucket(
            self,
            "bucket",
            name=names.bucket(place),
            location=cloud.region,
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            force_destroy=not cloud.protected,
            versioning={"enabled": not temporary},
            soft_delete_policy={"retention_duration_seconds": 0 if temporary else 7 * 86_400},
            lifecycle_rule=blocks(*rules),
            logging={"log_bucket": names.bucket("logs"), "log_object_prefix": place} if logged else None,
            lifecycle={"prevent_destroy": True} if cloud.protected and not temporary else None,
        )


def _deleted(expiry: Expiry) -> Mapping[str, Any]:
    condition: dict[str, Any] = {"age": expiry.days}
    if expiry.prefixes:
        condition["matches_prefix"] = list(expiry.prefixes)
    return {"action": {"type": "Delete"}, "condition": condition}


class Folder(Construct):
    """A managed folder: a prefix of a bucket that has grants of its own."""

    def __init__(self, scope: Construct, name: str, bucket: str, deployment: Deployment) -> None:
        super().__init__(scope, f"folder-{name}")
        self.resource = StorageManagedFolder(
            self, "folder", bucket=bucket, name=f"{name}/", force_destroy=not deployment.cloud.protected
        )
