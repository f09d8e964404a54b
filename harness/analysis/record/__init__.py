"""The records of a run, read once: windows added up by step, phases and fault intervals, what healing left.

rules, verdict and the reports come in. Knows no rule.
"""
