"""Suites: many experiments on one session; repeats, pairs of versions.

The command line and the API come in. Imports the conductor and what is below it, never the API or the command line.
"""
