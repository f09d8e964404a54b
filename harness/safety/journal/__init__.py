"""What must be undone is on disk before it is done: entries, files, what both files of a run say together.

locks, healing and keeper come in. Carries nothing out.
"""
