"""Experiments that share one session, its stack and its load: one after the other, each with its own records.

Suites come in. Imports the rest of the conductor, which does not import it.
"""
