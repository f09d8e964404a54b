"""harness.toml with the kinds of dependencies that are installed here."""

from __future__ import annotations

from pathlib import Path

from harness.config import load as config
from harness.config.file import Configuration
from harness.dependencies.registry import tables


def load(path: Path) -> Configuration:
    """Read and check a file. Raises UsageError in one line that names the file and the key path."""
    return config.load(path, tables())


def parse(data: bytes, path: Path) -> Configuration:
    """The configuration in these bytes of that file. Raises as `load` does."""
    return config.parse(data, path, tables())
