"""Comparison of runs and of groups of them: what is read, what cannot be compared, and the answer.

`harness.api` and whoever repeats runs come in. Imports analysis and model; writes nothing, and words are the report's.
"""
