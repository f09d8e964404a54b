"""One run at a time on a target and on all that it changes: on this machine, on a Toxiproxy, on a PostgreSQL.

healing and keeper come in. Imports the journal.
"""
