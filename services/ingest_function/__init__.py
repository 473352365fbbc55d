"""The ingest function: landed objects into the lake, each exactly once."""
