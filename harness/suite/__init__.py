"""Suites: many experiments on one session, their result, and the files of the gate.

The command line and the API come in. Imports the conductor and what lies below it, never the command line.
"""
