"""The start of `python -m harness.load last-look`: pipes first, then locust, as in start.py."""

from __future__ import annotations

import traceback
from typing import NoReturn

from harness.load.ipc.pipe import MessagePipe, ParentPipe
from harness.load.process.start import leave


def run_last_look() -> NoReturn:
    """Asks the target once more after the load. Never returns."""
    messages, pipe = MessagePipe(), ParentPipe()
    code = 4
    try:
        import locust  # noqa: F401, I001  # patches sockets and ssl: before anything that imports those
        from harness.load.after_load.last_look import run
        from harness.load.generator.worker import set_up_logging

        set_up_logging()
        code = run(messages, pipe)
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)
