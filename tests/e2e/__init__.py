"""Whole runs of the real command, looked at from outside: for what nothing less can show."""
