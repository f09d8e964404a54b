"""Game days: drills with people, on the session of a suite. Planned, carried out as people say, and closed.

The command line comes in. It breaks nothing by itself: what people may do goes through the desk, to the conductor.
"""
