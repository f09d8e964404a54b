"""Files that ship with the harness: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def resource(*parts: str) -> Path:
    """A path below `locustfiles/` or `compose/`, wherever this installation keeps them."""
    installed = _PACKAGE.joinpath("data", *parts)
    return installed if installed.exists() else _PACKAGE.parent.joinpath(*parts)
