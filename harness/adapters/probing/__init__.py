"""What a server answers on a fresh connection: probes, bulk exchanges, identity, its own counters.

Faults, stacks and the conductor come in. Leaves nothing behind on a server.
"""
