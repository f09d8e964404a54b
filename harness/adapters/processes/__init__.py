"""Processes of this machine: which is meant, what it uses, where it listens, stopping it, its start command.

Faults, safety, stacks and the conductor come in. Signals nobody whose identity was not looked at.
"""
