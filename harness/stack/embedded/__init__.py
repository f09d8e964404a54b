"""The embedded stack: real servers on loopback, with no Docker, no root and nothing installed by hand."""

from __future__ import annotations

from harness.stack.embedded.stack import EmbeddedStack

__all__ = ["EmbeddedStack"]
