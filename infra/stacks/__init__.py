"""The stacks of one environment, each with a state of its own."""
