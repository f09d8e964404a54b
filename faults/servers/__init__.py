"""Faults in a server's own protocol: connection-limit, connection-hog, lock, flush.

Found by entry point. Imports path and proxy.
"""
