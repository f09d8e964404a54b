"""What is written to a run directory or passed between processes, as typed records.

Everybody comes in. Imports nothing else of the harness.
"""
