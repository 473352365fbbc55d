"""The stacks of one environment, each with a state of its own."""

from infra import cdk as cdk  # before any import of CDKTF
