"""Faults that ship with the harness, one file per mechanism family."""
