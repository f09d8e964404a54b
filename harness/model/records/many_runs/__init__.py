"""What many runs leave together: a suite, a gate's answer, a group of repeats or of pairs.

Everybody comes in. Imports other records only.
"""
