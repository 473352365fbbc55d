"""One suite a port; every adapter passes it (tests/adapters on a laptop, tests/emulators for Google Cloud)."""
