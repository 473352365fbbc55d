"""Caudal on Google Cloud: CDKTF stacks, what proves them before a deploy, and what they cost."""

from infra.cdk import prepare

# Before any module of this package can import CDKTF.
prepare()
