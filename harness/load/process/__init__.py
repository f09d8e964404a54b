"""The load process: its start before locust is imported, its main loop, and the conductor's side of it.

The conductor comes in by launcher.py. launcher.py imports neither locust nor gevent.
"""
