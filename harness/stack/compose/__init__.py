"""The compose stack: the servers and the sample API in containers, by Docker Compose, driven by the Docker SDK."""

from __future__ import annotations

from harness.stack.compose.stack import ComposeStack

__all__ = ["ComposeStack"]
