"""Suites: many experiments on one session, their result, and the two committed files that their gate compares with.

The command line and the API come in. Imports the conductor and what is below it, never the API or the command line.
"""
