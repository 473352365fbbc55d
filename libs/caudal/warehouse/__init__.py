"""The warehouse port: tables that are loaded once by id, read as Arrow, and changed by one commit at a time."""

from caudal.warehouse.port import Commit, LoadOutcome, Parameters, ReadStream, Replacement, Warehouse

__all__ = ["Commit", "LoadOutcome", "Parameters", "ReadStream", "Replacement", "Warehouse"]
