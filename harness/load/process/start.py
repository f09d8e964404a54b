"""What must happen before locust is imported: pipes, file limit, local workers."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import msgspec

from harness.load.allowed_hosts.rule import checked_here
from harness.load.generator.locust_import import import_locust
from harness.load.ipc.keys import read_key_file
from harness.load.ipc.locustfiles import digest, files_of
from harness.load.ipc.pipe import MessagePipe, ParentPipe
from harness.load.ipc.protocol import Bye, Elsewhere, Failed, Start
from harness.model.errors import HarnessError
from harness.model.exit_codes import ExitCode
from harness.model.jsonl import encode_line


def run_load() -> NoReturn:
    """The load process itself. Never returns."""
    messages, pipe = MessagePipe(), ParentPipe()
    start = msgspec.json.decode(pipe.first_line(), type=Start)
    _raise_file_limit()
    alone = start.plan.workers == 1 and start.plan.remote is None
    children = [] if alone else [_start_worker() for _ in range(start.plan.local_workers)]
    code = 4
    try:
        import_locust()
        from harness.load.process.main import Load

        code = Load(start, pipe, messages, children).run()
    except BaseException as error:
        messages.write(encode_line(Failed(text=f"{type(error).__name__}: {error}")))
        traceback.print_exc()
    finally:
        for child in children:
            with suppress(OSError):
                child.kill()
        leave(code)


def run_helper(work: Callable[[MessagePipe, ParentPipe], int]) -> NoReturn:
    """One of the helpers that speak with their parent over pipes. work: imports what it needs. Never returns."""
    messages, pipe = MessagePipe(), ParentPipe()
    code = 4
    try:
        import_locust()
        code = work(messages, pipe)
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def worker(_: MessagePipe, pipe: ParentPipe) -> int:
    """A local worker."""
    _raise_file_limit()
    from harness.load.generator.worker import run_local

    return run_local(pipe)


def read_back(messages: MessagePipe, pipe: ParentPipe) -> int:
    """Reads acknowledged writes back."""
    from harness.load.after_load.readback import run
    from harness.load.generator.worker import set_up_logging

    set_up_logging()
    return run(messages, pipe)


def last_look(messages: MessagePipe, pipe: ParentPipe) -> int:
    """Asks the target once more after the load."""
    from harness.load.after_load.last_look import run
    from harness.load.generator.worker import set_up_logging

    set_up_logging()
    return run(messages, pipe)


def try_requests(messages: MessagePipe, pipe: ParentPipe) -> int:
    """Sends each request of the mix once, for the doctor."""
    from harness.load.before_load.try_requests import run
    from harness.load.generator.worker import set_up_logging

    set_up_logging()
    return run(messages, pipe)


def run_elsewhere(argument: str) -> NoReturn:
    """A worker for a run on another machine. Never returns; exit codes as `harness worker --help` says."""
    from harness.load.master.channel import Channel, say

    settings = msgspec.json.decode(argument, type=Elsewhere)
    _raise_file_limit()
    code = 4
    channel: Channel | None = None

    def on_signal(number: int, _frame: object) -> None:
        if channel is not None:
            channel.leave(f"it was stopped by {signal.Signals(number).name}")
        say("stopped")
        os._exit(ExitCode.INTERRUPTED)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        key = read_key_file(settings.key_file)
        channel = Channel(settings.host, settings.port, digest(files_of(settings.locustfile)), key)
        say(f"looking for a run on {channel.where}")
        start = channel.wait_for_place(settings.wait_s)
        if isinstance(start, Bye):
            say(f"refused by the run on {channel.where}: {start.text}" if start.code == 2 else start.text)
            leave(start.code)
        plan = checked_here(start.plan, settings.allow_hosts)
        say(f"worker w{start.index} of {start.plan.workers}, load on {start.plan.host}")
        plan = msgspec.structs.replace(plan, locustfile=settings.locustfile)
        start = msgspec.structs.replace(start, plan=plan, host=settings.host, port=settings.port, key=key)
        import_locust()
        from harness.load.generator.worker import run

        code = run(start)
        end = channel.ended or Bye(text="the run ended this worker", code=code)
        say(end.text)
        code = end.code
    except HarnessError as error:
        say(str(error) + (f" ({error.hint})" if error.hint else ""))
        code = int(error.exit_code)
    except BaseException as error:
        say(f"{type(error).__name__}: {error}")
        if type(error).__name__ != "BadLocustfile":
            traceback.print_exc()
    if channel is not None and code not in (0, 2) and channel.ended is None:
        channel.leave("it failed; its own output says why")
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
