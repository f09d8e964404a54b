"""What `harness init` writes or prints: a first harness.toml, an override that puts Toxiproxy before somebody's
services, a starter Locust file. Only written_files.py writes; nothing is started.

The command line comes in. It knows the kinds of dependencies, and no stack.
"""
