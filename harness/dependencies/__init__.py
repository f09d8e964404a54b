"""Kinds of dependencies: one file each, which answers everything that depends on the kind.

A new kind of server is a file here (or in a package of its own, entry point `harness.dependencies`) and its own faults.
The conductor, stacks, safety, the command line and faults come in; it knows adapters and what lies below them.
"""
