"""Would a run on the user's own system mean something? Facts with their evidence and their remedy.

The command line and the API come in. Imports the conductor, suites and what is below them; never the API, the command
line, nor locust.
"""
