"""The Docker engine: its SDK behind one file, records, networks, projects, logs, statistics.

Faults on containers, stacks and healing come in. Only engine.py imports the SDK.
"""
