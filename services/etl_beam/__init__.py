"""Lake to warehouse: checks, one row a key, features, and one commit at the end of the pipeline."""
