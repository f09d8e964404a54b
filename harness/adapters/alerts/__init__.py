"""Alerts as Prometheus and Alertmanager tell them, over their HTTP APIs and by webhook: read only, with limits.

The recorder of alerts and `harness plan` come in. What is read is untrusted: cut, never executed. No run, no rules.
"""
