"""Runs and suites of a folder over time: the list, the trend of a figure or of the score, what may be dropped.

The command line comes in. Reads result files; imports `report` for its words and `safety` for which runs are going on,
and neither the conductor nor the load.
"""
