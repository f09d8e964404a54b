"""The same system in containers.

The command line comes in. Imports embedded for what both have in common.
"""

from __future__ import annotations

from harness.stack.compose.stack import ComposeStack

__all__ = ["ComposeStack"]
