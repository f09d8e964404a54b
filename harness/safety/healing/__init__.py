"""Undoing: one path for the run, the keeper and `harness heal`; strangers' run directories are told and never acted on.

keeper and the command line come in. Imports journal and locks.
"""
