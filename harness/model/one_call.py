"""Commands that people paste: a record that names one may be anybody's."""

from __future__ import annotations

import shlex


def one_call(command: str) -> bool:
    """Whether it is a single call of the harness, as one writes it: quoted, so that a shell sees nothing but words."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return words[:1] == ["harness"] and shlex.join(words) == command
