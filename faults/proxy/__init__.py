"""Faults on a Toxiproxy proxy: down, and one toxic each.

Found by entry point. Imports path.
"""
