"""Faults on a container's resources and networks: cpu, memory, disconnect.

Found by entry point. Imports path and proxy.
"""
