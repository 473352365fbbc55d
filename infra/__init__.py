"""Caudal on Google Cloud: CDKTF stacks, what proves them before a deploy, and what they cost."""
