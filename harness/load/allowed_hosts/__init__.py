"""Which hosts load may go to, and Locust's clients held to it.

generator, lean and after_load come in. rule.py and pinned.py import no locust.
"""
