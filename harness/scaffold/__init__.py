"""What `harness init` prints: a first harness.toml, and an override that puts Toxiproxy before somebody's services.

Files are read and Compose is asked what it makes of them; nothing is started or written. The command line comes in; it
knows the kinds of dependencies, and no stack.
"""
