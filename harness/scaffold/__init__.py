"""What `harness init` writes or prints: a first harness.toml, an override that puts Toxiproxy before somebody's
services, a starter Locust file. Only written_files.py writes; nothing is started.

Compose is asked what it makes of a project. The command line comes in. It knows the kinds of dependencies, and no
stack.
"""
