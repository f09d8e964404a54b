"""Faults of an Envoy in front of an HTTP upstream: status, delay, slow-body, each by runtime keys of its own.

Found by entry point. Imports path and proxy.
"""
