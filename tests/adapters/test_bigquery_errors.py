"""What BigQuery's complaints become: what passes by itself, what is about the rows, and what a person must mend.

The shapes are those of its documentation and of its client library, whose `job.base` makes the error
of a failed job from the reason.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from google.api_core import exceptions as google
from google.cloud.bigquery.job.base import _error_result_to_exception

from caudal.errors import CaudalError, NotFound, RowsRefused, WarehouseFailed, WarehouseUnavailable
from caudal.storage.files import FileStorage
from caudal.warehouse.bigquery import BigQueryWarehouse, Clients, typed_errors
from tests.contract_suites.warehouse import PAYMENTS


def of_a_job(reason: str, message: str = "x") -> Exception:
    error: Exception = _error_result_to_exception({"reason": reason, "message": message})
    return error


PASSING = {
    "too many requests": google.TooManyRequests("x"),
    "resources are exhausted (gRPC)": google.ResourceExhausted("x"),
    "an internal error": google.InternalServerError("x"),
    "a bad gateway": google.BadGateway("x"),
    "unavailable": google.ServiceUnavailable("x"),
    "a deadline (gRPC)": google.DeadlineExceeded("x"),
    "aborted (gRPC)": google.Aborted("x"),
    "the client gave up to try again": google.RetryError("x", google.ServiceUnavailable("y")),
    "a limit of the rate": google.Forbidden("x", errors=[{"reason": "rateLimitExceeded"}]),
    "a job whose backend failed": of_a_job("backendError"),
    "a job beyond the rate": of_a_job("jobRateLimitExceeded"),
    "a table that is unavailable": of_a_job("tableUnavailable"),
    "a transaction that gave way": of_a_job(
        "invalidQuery", "Transaction is aborted due to concurrent update against table p:warehouse.payments."
    ),
    "a statement that gave way": google.BadRequest(
        "Could not serialize access to table p:warehouse.payments due to concurrent update",
        errors=[{"reason": "invalidQuery"}],
    ),
}
LASTING = {
    "a wrong query": of_a_job("invalidQuery", "Syntax error"),
    "access denied": of_a_job("accessDenied"),
    "a quota": of_a_job("quotaExceeded"),
    "too much": of_a_job("resourcesExceeded"),
    "bad rows": of_a_job("invalid"),
    "stopped by a person": of_a_job("stopped"),
}


def typed(error: Exception) -> CaudalError:
    with pytest.raises(CaudalError) as caught, typed_errors("lake.payments"):
        raise error
    return caught.value


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_what_passes_by_itself_is_worth_another_attempt(error: Exception) -> None:
    said = typed(error)
    assert isinstance(said, WarehouseUnavailable)
    assert said.transient
    assert said.where == "lake.payments"
    assert said.mend


@pytest.mark.parametrize("error", LASTING.values(), ids=LASTING)
def test_what_another_attempt_would_not_mend_is_final(error: Exception) -> None:
    said = typed(error)
    assert isinstance(said, WarehouseFailed)
    assert not said.transient


def test_what_is_not_there_is_not_found() -> None:
    assert isinstance(typed(google.NotFound("x")), NotFound)


class Answers:
    """A client whose load jobs end as the test says, one after another."""

    def __init__(self, *ends: Exception | None) -> None:
        self._ends = list(ends)
        self.jobs: dict[str, Any] = {}

    def get_dataset(self, _: str) -> Any:
        return mock.Mock(location="EU")

    def get_job(self, job_id: str, location: str) -> Any:
        if job_id not in self.jobs:
            raise google.NotFound("no such job")
        return self.jobs[job_id]

    def load_table_from_uri(self, *_: Any, job_id: str, **__: Any) -> Any:
        from google.cloud.bigquery import LoadJob

        end = self._ends.pop(0)
        job = mock.Mock(spec=LoadJob, error_result=end and {"reason": "x"}, output_rows=3)
        job.result.side_effect = end
        job.exception.return_value = end
        self.jobs[job_id] = job
        return job


def load(client: Answers, tmp_path: Any) -> int:
    warehouse = BigQueryWarehouse("p", FileStorage(tmp_path), clients=lambda: Clients(client, None))  # type: ignore[arg-type]
    return warehouse.load(PAYMENTS, ["gs://b/a.parquet"], "m1").rows


def test_rows_that_a_load_refuses_are_told_from_everything_else(tmp_path: Any) -> None:
    with pytest.raises(RowsRefused):
        load(Answers(of_a_job("invalid", "Error while reading data")), tmp_path)
    for reason, kind in (("resourcesExceeded", WarehouseFailed), ("notFound", NotFound)):
        with pytest.raises(kind):
            load(Answers(of_a_job(reason)), tmp_path)


def test_a_load_that_failed_for_a_moment_is_another_job_in_the_next_attempt(tmp_path: Any) -> None:
    client = Answers(of_a_job("backendError"), None)
    with pytest.raises(WarehouseUnavailable):
        load(client, tmp_path)
    assert load(client, tmp_path) == 3
    assert list(client.jobs) == ["load-warehouse-payments-m1-1", "load-warehouse-payments-m1-2"]
