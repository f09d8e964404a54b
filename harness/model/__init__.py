"""The words everything else speaks: units, the grammar of targets, errors, exit codes, clocks, files.

Everybody comes in. Imports nothing of the harness but its own records.
"""
