"""Nothing stays broken: the undo on disk, and who carries it out. Here: which runs there are.

The conductor and the command line come in. Imports fault and adapters; knows no load, report or rule.
"""
