"""A process of the load's kind that is asked once and watched until it has said all: the looks after the load, and the
reading back of what was acknowledged."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
import psutil

from harness.conductor.session import Session
from harness.conductor.signals import Signals
from harness.model.clock import monotonic
from harness.model.errors import HarnessError
from harness.model.jsonl import encode_line
from harness.safety.keeper.client import Keeper

START_S = 60.0
"""For the start of the process, the import of the locustfile and what that prepares."""
POLL_S = 0.05
INTERRUPTED = "the run was interrupted"

Answer = TypeVar("Answer")


def ask(
    what: str,
    start: msgspec.Struct,
    answers: msgspec.json.Decoder[Answer],
    heard: Callable[[Answer], float | None],
    session: Session,
    signals: Signals,
    *,
    goodbye_s: float = 0.0,
) -> str:
    """Run `harness.load WHAT`, which ends with this process; the keeper's lease is renewed meanwhile.

    heard: called with each answer; gives the instant until which the next may take, None when there is none to come.
    goodbye_s: time to end by itself after that. Returns why there was no last answer, or "". Raises nothing for what
    goes wrong on the way.
    """
    keeper = session.keeper
    assert keeper is not None
    try:
        with (session.run_dir / "logs" / "load.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", "harness.load", what],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        return str(error)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    assert child.stdin is not None and child.stdout is not None
    out, into = child.stdout, child.stdin

    def talk() -> None:
        # ValueError: the pipes are closed once the last answer is there, or nobody waits for it any more.
        with suppress(OSError, ValueError):
            into.write(encode_line(start))
            into.flush()
        with suppress(OSError, ValueError):
            while line := out.readline():
                lines.put(line)
        lines.put(b"")

    try:
        with suppress(HarnessError, psutil.Error):
            keeper.adopt(what, child.pid, psutil.Process(child.pid).create_time())
        threading.Thread(target=talk, name=what, daemon=True).start()
        deadline: float | None = monotonic() + START_S
        while deadline is not None and monotonic() < deadline:
            keeper.renew()
            if signals.count:
                return INTERRUPTED
            try:
                deadline = heard(answers.decode(lines.get(timeout=POLL_S)))
            except queue.Empty:
                continue
            except msgspec.MsgspecError:
                return "the process for it ended; see logs/load.log"
        if deadline is not None:
            return "it took too long"
        _let_go(child, keeper, signals, goodbye_s)
        return ""
    finally:
        child.kill()
        child.wait()
        for pipe in (out, into):
            # What a child that has died did not read is still to be written, and closing tries it again.
            with suppress(OSError):
                pipe.close()


def _let_go(child: subprocess.Popen[bytes], keeper: Keeper, signals: Signals, goodbye_s: float) -> None:
    until = monotonic() + goodbye_s
    while child.poll() is None and monotonic() < until and not signals.count:
        keeper.renew()
        time.sleep(0.01)
