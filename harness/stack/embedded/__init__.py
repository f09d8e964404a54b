"""Real Valkey, PostgreSQL, Kafka and Toxiproxy on loopback from packages, with the sample API.

compose and the command line come in. Imports starting and adapters.
"""

from __future__ import annotations

from harness.stack.embedded.stack import EmbeddedStack

__all__ = ["EmbeddedStack"]
