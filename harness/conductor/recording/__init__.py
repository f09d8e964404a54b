"""What a run writes down beside requests: history, log, samples, alerts, provenance, annotations.

The conductor comes in. A write that fails never stops an undo.
"""
