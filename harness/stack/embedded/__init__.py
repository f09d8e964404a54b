"""Real Valkey, PostgreSQL, Kafka, Toxiproxy and Envoy on loopback from packages, with the sample API and its upstream.

compose and the command line come in. Imports starting and adapters.
"""

from __future__ import annotations

from harness.stack.embedded.stack import EmbeddedStack

__all__ = ["EmbeddedStack"]
