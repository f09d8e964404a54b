"""Lines from the parent process, read on a real thread; the end of the pipe is the end of this process.

A gevent loop that user code keeps busy would notice the end of the pipe too late: the thread ends the process
itself, within the time that the kernel needs to close the pipe. Make the `ParentPipe` before gevent patches
anything (before locust is imported), or its thread would be a greenlet.
"""

from __future__ import annotations

import _thread
import os
import time
from collections import deque
from collections.abc import Callable

ORPHANED = 70
"""Exit code of a load process whose parent's pipe ended."""


class ParentPipe:
    """Takes over file descriptor 0: user code that reads stdin finds it empty."""

    def __init__(self) -> None:
        self._fd = os.dup(0)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        self._lines: deque[bytes] = deque()
        self._wake: Callable[[], object] | None = None
        self._keep: object = None
        _thread.start_new_thread(self._read, ())

    def first_line(self) -> bytes:
        """Wait for the first line; only before `listen`."""
        while not self._lines:
            time.sleep(0.002)
        return self._lines.popleft()

    def listen(self, on_line: Callable[[bytes], None]) -> None:
        """Call on_line in gevent's hub (so it must not block) for every line from now on."""
        from gevent import get_hub

        def drain() -> None:
            while self._lines:
                on_line(self._lines.popleft())

        # libev's async watcher is its one thread-safe way in.
        watcher = get_hub().loop.async_()
        watcher.start(drain)
        self._keep = watcher
        self._wake = watcher.send
        watcher.send()

    def _read(self) -> None:
        buffer = b""
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                data = b""
            if not data:
                os._exit(ORPHANED)
            *lines, buffer = (buffer + data).split(b"\n")
            self._lines.extend(line for line in lines if line)
            wake = self._wake
            if lines and wake is not None:
                wake()


class MessagePipe:
    """Takes over file descriptor 1 for messages to the parent; what user code prints goes to stderr, the log."""

    def __init__(self) -> None:
        self._fd = os.dup(1)
        os.dup2(2, 1)

    def write(self, line: bytes) -> None:
        """One whole line. A parent that is gone is noticed by the other pipe."""
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            pass
