"""The shared fixtures keep what they promise."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from caudal.contract import Contract
from caudal.environment import Environment


def test_the_small_contract_is_valid_and_takes_changes(small_contract: Callable[..., Contract]) -> None:
    assert small_contract().label.positive == "yes"
    assert (
        small_contract({"label.due_after": "3d"}, key="customer", **{"columns.customer.required": True}).key
        == "customer"
    )


def test_the_local_environment_lies_in_the_tests_own_folder(
    local_environment: Environment, tmp_path: Path
) -> None:
    assert local_environment.root_path.is_relative_to(tmp_path)
    assert local_environment.warehouse.startswith(f"duckdb:{tmp_path}")


def test_a_test_has_no_network() -> None:
    with socket.socket() as connection, pytest.raises(RuntimeError, match="no network"):
        connection.connect(("192.0.2.1", 80))
