"""A plan and a result for people and pipelines. Here: Markdown, JUnit, and which file holds which form.

The conductor and the command line come in. Imports analysis and model; no number is made here.
"""
