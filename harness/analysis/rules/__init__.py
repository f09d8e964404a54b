"""The rules of docs/measurement.md: targets, recovery, impact, the generator, memory, what a fault left behind.

verdict and the live rules come in. Imports record and statistics.
"""
