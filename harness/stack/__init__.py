"""The systems under test. Here: which stacks stay up, and does each part answer?

The conductor and the command line come in. Knows no load, report or safety: processes are started by whoever it is
given.
"""
