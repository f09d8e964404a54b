"""From the judged experiments of a suite to what they say together: cells, isolation, score, the gate.

Pure. The suite, reports and the command line come in. Imports verdict, rules and below; nothing in analysis imports it.
"""
