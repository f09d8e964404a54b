"""One generator of load: the open and the closed model, users, every request tracked.

process and after_load come in. Knows no master and no other machine.
"""
