"""Asks Google Cloud with the caller's own credentials; an answer that refuses is an answer too."""

from __future__ import annotations

from typing import Any

from pipeline.doctor.findings import Answer
from pipeline.workflow.api import ApiCall

TIMEOUT_SECONDS = 20
_NO_CREDENTIALS = Answer(401, {"error": {"message": "there are no Application Default Credentials"}})


class Client:
    """Sends checked requests with Application Default Credentials."""

    def __init__(self) -> None:
        self._session: Any = None

    def __call__(self, call: ApiCall) -> Answer:
        """The answer: of Google, 401 where there are no credentials, 0 where nothing was reached."""
        from google.auth.exceptions import DefaultCredentialsError, RefreshError
        from google.auth.exceptions import TransportError as AuthTransportError
        from requests.exceptions import RequestException

        call.check()
        try:
            answer = self._authorized().request(
                call.verb.upper(), call.url, params=dict(call.query), json=call.body, timeout=TIMEOUT_SECONDS
            )
        except (DefaultCredentialsError, RefreshError):
            return _NO_CREDENTIALS
        except (AuthTransportError, RequestException) as error:
            return Answer(0, {"error": {"message": str(error)}})
        try:
            body = answer.json()
        except ValueError:
            body = {"error": {"message": answer.text[:300]}}
        return Answer(answer.status_code, body)

    def _authorized(self) -> Any:
        if self._session is None:
            import google.auth
            from google.auth.transport.requests import AuthorizedSession

            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
            self._session = AuthorizedSession(credentials)
        return self._session
