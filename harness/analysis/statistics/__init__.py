"""Exact tails, dispersion, change-points and violating windows: mathematics on counts per 100 ms step.

Every rule comes in. Imports model only, and knows neither targets nor phases.
"""
