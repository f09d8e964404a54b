"""From what a person asked for to a Plan, and the phase machine that a run follows. Pure: no clock, no I/O.

The conductor, the load (for the schedule) and the command line come in. Imports model only; the faults are
described to it.
"""
