"""Toxiproxy: its control plane, the lock left on it, its restart when its API is locked up, commands for people.

Faults on proxies, locks, healing and stacks come in. Only client.py imports toxiproxy-python.
"""
