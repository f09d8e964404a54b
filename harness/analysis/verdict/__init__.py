"""The judge: all rules over one run, the verdict with its reasons, and the tables of the result.

The conductor, the reports and `harness check` come in. Nothing below it imports it.
"""
