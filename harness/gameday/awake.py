"""A machine that goes to sleep in a drill takes the keeper with it: where the system can, it is held off."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = "systemd-inhibit"


@contextmanager
def awake(why: str) -> Iterator[bool]:
    """Whether sleep is held off meanwhile; a system that has no such program, or refuses, is left as it is."""
    child: subprocess.Popen[bytes] | None = None
    program = shutil.which(PROGRAM)
    if program is not None:
        words = [program, "--what=sleep:idle", "--who=harness", f"--why={why}", "--mode=block", "cat"]
        try:
            # It reads until the run ends, in whatever way, and lets go then.
            null = subprocess.DEVNULL
            child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)
        except OSError:
            child = None
    try:
        yield child is not None and not _refused(child)
    finally:
        if child is not None:
            if child.stdin is not None:
                child.stdin.close()
            try:
                child.wait(2.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _refused(child: subprocess.Popen[bytes]) -> bool:
    """It ends at once where there is no login manager that it could ask."""
    try:
        child.wait(0.3)
    except subprocess.TimeoutExpired:
        return False
    return True
