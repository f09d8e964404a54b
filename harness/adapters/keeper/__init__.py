"""What is said to a keeper, the client that asks it, and starting a server by it.

Whoever starts a server through a keeper comes in, from faults to the run's side of it. It knows processes, and nothing
of what the keeper does with what it is told (harness/safety/keeper/).
"""
