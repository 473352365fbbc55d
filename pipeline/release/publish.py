"""The last act of a deployment: what is deployed is said where runs look first, and a run is started.

Contracts and the environment lie in `<artifacts>/config/<digest>/`, which no later version changes. One object a
contract then names that folder, the images and the template; it is written last, in one piece, so a run sees the
release before or the release after, never a mixture. Until then the workflow keeps to the release before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from caudal.errors import CaudalError
from caudal.identity import digest, floor_to, format_instant, run_id
from caudal.storage import Storage, join
from pipeline.release.units import baked
from pipeline.runs import publish_config
from pipeline.workflow.targets import deployed_name

if TYPE_CHECKING:
    from caudal.cloud_names import CloudNames
    from caudal.contract import Contract
    from caudal.environment import Environment
    from infra.release import Release

Post = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Posts JSON to a URL with the caller's credentials and gives the answer."""


class StartRefused(CaudalError):
    """Google Cloud did not start the workflow."""


@dataclass(frozen=True)
class Published:
    """What runs of a contract find from now on."""

    contract: str
    config: str
    deployed: str


def publish(
    storage: Storage,
    contract: Contract,
    environment: Environment,
    names: CloudNames,
    release: Release,
) -> Published:
    """Publishes the configuration, and then says what is deployed.

    Raises:
        ReleaseError: the release lacks a unit that runs call.
    """
    config = publish_config(storage, contract, environment)
    uri = join(environment.places.artifacts, deployed_name(contract.name))
    units = {
        "etl_beam": {
            "image": names.image("etl_beam", release.digest("etl_beam")),
            "template": names.template_uri("etl_beam", release.digest("etl_beam")),
        },
        "trainer": {
            "image": names.image("trainer", release.digest("trainer")),
            "digest": baked(release.content("trainer")),
        },
    }
    storage.write_json(uri, {"config": config, "commit": release.commit, "units": units})
    return Published(contract.name, config, uri)


def publish_release(storage: Storage, environment: Environment, release: Mapping[str, Any]) -> str:
    """Keeps release.json where it is deployed, for whoever asks what runs there; returns its URI."""
    uri = release_uri(environment)
    storage.write_json(uri, dict(release))
    return uri


def release_uri(environment: Environment) -> str:
    """Where the release that an environment runs is kept."""
    return join(environment.places.artifacts, "config", "deployed", "release.json")


def start_argument(
    environment: Environment, digests: Mapping[str, str], config: str, now: datetime | None = None
) -> dict[str, str]:
    """The argument of the run that follows a deployment.

    Its name is made from what was deployed, so publishing the same release again starts no second run of a period.
    Whether it trains, the monitor decides: most deployments change nothing that decides a model.
    """
    as_of = floor_to(now or datetime.now(UTC), environment.schedule.every)
    request = digest("code", dict(digests), config)
    return {"as_of": format_instant(as_of), "id": run_id(as_of, request), "reason": "code"}


def start_run(names: CloudNames, contract: str, argument: Mapping[str, str], post: Post) -> str:
    """Starts a contract's workflow; returns the execution's name.

    Raises:
        StartRefused: with Google's answer.
    """
    workflow = f"projects/{names.project}/locations/{names.region}/workflows/{names.workflow(contract)}"
    answer = post(
        f"https://workflowexecutions.googleapis.com/v1/{workflow}/executions", {"argument": json.dumps(argument)}
    )
    return str(answer["name"])


def post_as_caller(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Posts with Application Default Credentials.

    Raises:
        StartRefused: there are no credentials, or Google refused.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession

    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        answer = AuthorizedSession(credentials).post(url, json=dict(body), timeout=60)
    except GoogleAuthError as error:
        mend = "log in: gcloud auth application-default login"
        raise StartRefused(f"there are no credentials: {error}", where=url, mend=mend) from error
    if answer.status_code >= 400:
        mend = "run `caudal doctor`, which tells missing rights and services apart"
        raise StartRefused(f"status {answer.status_code}: {answer.text[:300]}", where=url, mend=mend)
    found: dict[str, Any] = answer.json()
    return found
