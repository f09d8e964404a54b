"""What `harness init` prints: a first harness.toml, and an override that puts Toxiproxy before somebody's services.

Pure: files are read, nothing is started or written. The command line comes in; it knows the kinds of dependencies, and
no stack.
"""
