"""The trainer: fixes the due, labelled rows, trains a candidate, judges it, and makes it live."""
