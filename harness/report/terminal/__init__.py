"""The plan, the live view and the summary on a terminal or in a CI log.

The conductor and the command line come in. Imports findings and sentences.
"""
