"""Exact tails, dispersion, change-points, violating windows; exact tests of pairs and groups: mathematics on numbers.

Every rule comes in. Imports model only, and knows neither targets nor phases.
"""
