"""Hardened building blocks: each resource that holds data or runs code is made in one place, the safe way."""

from infra import cdk as cdk  # before any import of CDKTF
