"""Acknowledged writes: noted in a locustfile, asked for again later.

generator and after_load come in; locustfiles by harness.load.acknowledged. Imports record only.
"""
