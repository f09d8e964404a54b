"""Faults in a server's own protocol: connection-limit, connection-hog, flush.

Found by entry point. Imports path and proxy.
"""
