"""The generators of a run brought together: those here and those on other machines, their clocks.

process comes in. Sends no request to the target.
"""
