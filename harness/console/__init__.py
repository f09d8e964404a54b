"""The console of a game day: a web server in a process of its own, which shows what the desk knows and asks it for what
people want. It breaks nothing and keeps nothing: when it dies the run clears every fault and starts it again.

The command line comes in. Only `link` and `doors` are the run's side; the rest never imports the conductor.
"""
