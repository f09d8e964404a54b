"""Acknowledged writes: noted in a locustfile, asked for again later.

generator and afterwards come in; locustfiles by harness.load.acknowledged. Imports record only.
"""
