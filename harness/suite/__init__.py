"""Suites: many experiments in one session. Here: the two committed files that their gate compares with.

The command line comes in. Imports the conductor and what is below it, never the API or the command line.
"""
