"""Experiment files: strict YAML, its values, and the lists of faults in it.

The planner and the command line come in. Imports model only.
"""
