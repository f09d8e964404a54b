"""The resilience report of a suite: a page, Markdown and JUnit, of suite.json, gate.json and each experiment's result.

The suite and the command line come in. Imports the report's other rooms, analysis and model; no number is made here.
"""
