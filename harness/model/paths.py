"""Where the harness keeps state and caches, by the XDG rules."""

from __future__ import annotations

import os
from pathlib import Path


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback


def state_dir() -> Path:
    """$XDG_STATE_HOME/harness: journals of active runs, locks, running stacks."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "harness"


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/harness: fetched servers, verified."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "harness"
