"""Starting servers: fetched files, free ports, tools with a limit, waiting until one answers.

embedded and compose come in. Imports model only.
"""
