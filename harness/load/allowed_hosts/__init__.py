"""Which hosts load may go to, Locust's clients held to it, and the header lines that only the target gets.

generator, lean and after_load come in. rule.py, pinned.py and traceparent.py import no locust.
"""
