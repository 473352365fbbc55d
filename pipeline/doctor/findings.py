"""What the doctor says, and how an answer of Google's becomes something that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        status: `failed` stops a deployment; `warning` may; `unknown` could not be looked at, and `what` says why.
        mend: what to do; empty where nothing is wrong.
    """

    check: str
    status: Status
    what: str
    mend: str = ""


@dataclass(frozen=True)
class Answer:
    """An API's answer: the HTTP status (0: none came), and the body."""

    status: int
    body: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def explain(answer: Answer, asked: str, project: str) -> tuple[str, str]:
    """Why Google refused, and the mend, from the error model that all its APIs share (google.rpc.Status).

    Args:
        asked: what was asked for, for the sentence.
        project: in which it was asked.

    Returns:
        What is wrong, and the mend.
    """
    error = answer.body.get("error", {})
    error = error if isinstance(error, Mapping) else {"message": str(error)}
    reasons = {str(info.get("reason")): info.get("metadata", {}) for info in _details(error, "ErrorInfo")}
    said = str(error.get("message", "")).split("\n")[0]
    if answer.status == 0:
        return f"{asked}: no answer", "check the network, a proxy and DNS: *.googleapis.com must be reachable"
    if "SERVICE_DISABLED" in reasons:
        service = reasons["SERVICE_DISABLED"].get("service", "the API")
        return f"{asked}: {service} is not enabled", f"gcloud services enable {service} --project {project}"
    if "BILLING_DISABLED" in reasons:
        return f"{asked}: the project has no billing", _link_billing(project)
    if answer.status == 401:
        return f"{asked}: the credentials are not taken", "gcloud auth application-default login"
    if answer.status == 403:
        permission = next((info.get("permission") for info in reasons.values() if info.get("permission")), "")
        lacks = f" ({permission})" if permission else ""
        mend = f"ask who owns {project} for a role with this right; docs/deploy.md lists what a person needs"
        return f"{asked}: not allowed{lacks}", mend
    if answer.status == 404:
        return f"{asked}: not there", f"check the project's name in the environment ({project})"
    if answer.status == 429:
        return f"{asked}: too many requests", "wait a minute and call again"
    return f"{asked}: status {answer.status}, {said}", "call again; if it stays, status.cloud.google.com"


def _link_billing(project: str) -> str:
    return f"gcloud billing projects link {project} --billing-account ACCOUNT"


def _details(error: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    for detail in error.get("details", ()):
        if str(detail.get("@type", "")).endswith(f"google.rpc.{kind}"):
            yield detail
