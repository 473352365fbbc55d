"""Hardened building blocks: each resource that holds data or runs code is made in one place, the safe way."""
