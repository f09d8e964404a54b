"""The outside world: one room a kind of thing, one file a client library. Here: which addresses may be spoken to.

Faults, safety, stacks and the conductor come in. Imports model and config, never a rule or a plan.
"""
