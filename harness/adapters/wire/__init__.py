"""Protocols by hand on a socket, each exchange with one deadline: TCP, TLS, SASL, HTTP, Kafka, memcached.

Everybody who probes or reads comes in. Imports model only.
"""
