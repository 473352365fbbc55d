"""The monitor: what comes in, what comes out, and whether to train again."""
