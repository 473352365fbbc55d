"""The pipeline: the step table, its local executor, the replay, and the command line."""
