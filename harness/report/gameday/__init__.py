"""The record of a game day for people: Markdown, a page, action items as CSV and as a checklist.

The command line and the game day come in. Pure but for the files that are written; all outside text is escaped.
"""
