"""Commands about many runs: suites, comparisons, history.

The command line's table comes in. Imports click and the options alone before a command is called.
"""
