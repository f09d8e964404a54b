"""Faults that ship with the harness: a room a family. Each object is registered in pyproject.toml.

Found by entry point; the harness never imports them. Imports harness.fault, harness.adapters and harness.model.
"""
