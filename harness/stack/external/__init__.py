"""The user's own system, as harness.toml declares it: read and looked at, never changed.

The command line comes in. Imports config and adapters.
"""
