"""What only the node of a server can be told: its own command-line tool, on this machine or in its container.

Kinds of dependencies and faults come in. Imports docker and processes; no client library of a server.
"""
