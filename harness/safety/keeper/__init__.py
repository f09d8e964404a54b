"""The process that outlives a run to undo what it did and to end what it started, and the run's side of it.

The conductor and the stacks come in, by client.py. Nothing else of safety imports it.
"""
