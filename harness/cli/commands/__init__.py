"""One file a command.

harness.cli comes in, lazily. Commands import each other only where one is part of another.
"""
