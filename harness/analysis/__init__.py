"""From what was recorded to a result. Pure: the same files always give the same result.

The conductor, the reports and the command line come in. Imports plan and model; opens no connection. Two files
here: a run directory read back, and the same rules while a run goes on.
"""
