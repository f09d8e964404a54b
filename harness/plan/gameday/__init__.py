"""What a game day is planned to be: its file, strictly decoded, and the commented one that `gameday init` prints.

The planning of suites and game days comes in. Nothing here is started or looked at.
"""
