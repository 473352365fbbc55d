"""What can be wrong with a step table, a request or a source before it is deployed."""

from __future__ import annotations

from caudal.errors import CaudalError


class WorkflowError(CaudalError):
    """The step table can't be compiled to Cloud Workflows as it stands."""


class InvalidOrder(WorkflowError):
    """The steps wait for each other, for a step that is not there, or in no order that Workflows has."""


class InvalidCall(WorkflowError):
    """A request is not one that the API's discovery document describes."""


class LimitExceeded(WorkflowError):
    """The source goes beyond a documented limit of Cloud Workflows."""
