"""From the judged experiments of a suite to what they say together: cells, isolation, score, the gate.

Pure. Suites, reports and the command line come in. Imports verdict, rules and below; no other room of analysis
imports it.
"""
