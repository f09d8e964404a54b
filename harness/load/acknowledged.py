"""Acknowledged writes for locustfiles: `from harness.load.acknowledged import Acknowledged`."""

from harness.load.writes.acknowledged import Acknowledged

__all__ = ["Acknowledged"]
