"""Python imports this when its folder is on PYTHONPATH. It ends the `run` process by SIGKILL at a chosen moment.

TEST_DIE_AFTER: inject or undo, the newest intent in the run's journal. TEST_DIE_PORT: of Toxiproxy's API.
TEST_DIE_CALL: which connection to it after that line; the process ends before the connection is made.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

_mutex = threading.Lock()
_calls = 0


def _begun(action: str) -> bool:
    active = Path(os.environ["XDG_STATE_HOME"]) / "harness" / "active"
    wanted = f'"action":"{action}"'.encode()
    return any(wanted in journal.read_bytes() for journal in active.glob("*/journal.jsonl"))


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    global _calls
    if event != "socket.connect":
        return
    address = arguments[1]
    if not isinstance(address, tuple) or str(address[1]) != os.environ["TEST_DIE_PORT"]:
        return
    with _mutex:
        if _begun(os.environ["TEST_DIE_AFTER"]):
            _calls += 1
            if _calls == int(os.environ["TEST_DIE_CALL"]):
                os.kill(os.getpid(), signal.SIGKILL)


if "TEST_DIE_AFTER" in os.environ and "run" in getattr(sys, "orig_argv", [])[1:5]:
    sys.addaudithook(_watch)
