"""Which experiments a suite has: made from the declared dependencies, or read from a file. Pure.

The suite's runner and the command line come in. Imports no more than the rest of planning does.
"""
