"""The contract: one file that describes a data set and its model, parsed once into typed, frozen objects."""

from caudal.contract.contract import Contract
from caudal.contract.parse import load_contract, parse_contract

__all__ = ["Contract", "load_contract", "parse_contract"]
