"""Which hosts load may go to, and Locust's clients held to it.

generator, lean and afterwards come in. hosts.py and pinned.py import no locust.
"""
