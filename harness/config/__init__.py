"""harness.toml: the user's own system, and their defaults for `run`.

The command line, the stacks and the adapters that start processes come in. Imports model only.
"""
