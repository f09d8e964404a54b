"""The load: Locust in processes of its own, commanded over a pipe. Here: its entry point, and what locustfiles import.

The conductor comes in by process/launcher.py, which imports neither locust nor gevent. Imports plan (for the
schedule) and adapters (for addresses); knows no report and no safety.
"""
