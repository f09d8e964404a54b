"""harness.toml: the user's own system, and their defaults for `run`."""
