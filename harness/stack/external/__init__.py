"""The user's own system, as harness.toml declares it: looked at, never changed; versions of it that a run starts.

The command line comes in. Imports config and adapters.
"""
