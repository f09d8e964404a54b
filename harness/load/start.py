"""What must happen before locust is imported: pipes, file limit, local workers."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import suppress
from typing import NoReturn

import msgspec

from harness.load.pipe import MessagePipe, ParentPipe
from harness.load.protocol import Failed, Start
from harness.model.jsonl import encode_line


def run_load() -> NoReturn:
    """The load process itself. Never returns."""
    messages, pipe = MessagePipe(), ParentPipe()
    start = msgspec.json.decode(pipe.first_line(), type=Start)
    _raise_file_limit()
    children = [_start_worker() for _ in range(start.plan.workers)] if start.plan.workers > 1 else []
    code = 4
    try:
        import locust  # noqa: F401, I001  # patches sockets and ssl: before anything that imports those
        from harness.load.main import Load

        code = Load(start, pipe, messages, children).run()
    except BaseException as error:
        messages.write(encode_line(Failed(text=f"{type(error).__name__}: {error}")))
        _print_traceback()
    finally:
        for child in children:
            with suppress(OSError):
                child.kill()
        leave(code)


def run_worker() -> NoReturn:
    """A local worker. Never returns."""
    MessagePipe()
    pipe = ParentPipe()
    _raise_file_limit()
    code = 4
    try:
        import locust  # noqa: F401, I001
        from harness.load.worker import run

        code = run(pipe)
    except BaseException:
        _print_traceback()
    finally:
        leave(code)


def run_read_back() -> NoReturn:
    """Reads acknowledged writes back. Never returns."""
    messages, pipe = MessagePipe(), ParentPipe()
    code = 4
    try:
        import locust  # noqa: F401, I001
        from harness.load.readback import run
        from harness.load.worker import set_up_logging

        code = run(messages, pipe, set_up_logging)
    except BaseException:
        _print_traceback()
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """Exit without waiting for greenlets, threads or exit handlers that user code may have left."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _start_worker() -> subprocess.Popen[bytes]:
    # Its stdin is the pipe whose end is its end; close_fds keeps the other workers from holding it open.
    return subprocess.Popen(
        [sys.executable, "-P", "-u", "-m", "harness.load", "worker"], stdin=subprocess.PIPE, stdout=2, close_fds=True
    )


def _raise_file_limit() -> None:
    """Every user holds a connection: allow as many as the system does."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()
