"""One experiment, from set-up to its judged directory: session, loop, faults, worker threads, the end.

The command line comes in. Imports everything but the command line; never locust or gevent.
"""
