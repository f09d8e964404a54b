"""Faults in a server's own protocol: connection-limit, connection-hog, lock, flush, block.

Found by entry point. Imports path and proxy.
"""
