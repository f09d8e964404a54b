"""pause, kill and restart, of a server's processes or of its container.

Found by entry point. Imports path, proxy and containers.
"""
