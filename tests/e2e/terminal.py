"""A real terminal with a real shell in it: what is typed is what a person types, what is read is what a person sees."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path


class Terminal:
    """An interactive bash on a pty of its own, which is its controlling terminal (Linux: util-linux's setsid)."""

    def __init__(self, cwd: Path, env: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "-i"],
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", "PS1": "$ ", "HISTFILE": "/dev/null", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self._seen = bytearray()
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # A read that waits would keep the pty open after close(), and the shell would not see that its window is gone.
        while not self._closing.is_set():
            try:
                readable, _, _ = select.select([self._master], [], [], 0.02)
                data = os.read(self._master, 65536) if readable else None
            except OSError:
                return
            if data == b"":
                return
            self._seen += data or b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def text(self) -> str:
        return self._seen.decode(errors="replace")

    def wait_text(self, wanted: str, limit_s: float = 60.0) -> None:
        end = time.monotonic() + limit_s
        while wanted not in self.text:
            assert time.monotonic() < end, f"not within {limit_s:g} s: {wanted!r} in\n{self.text[-3000:]}"
            time.sleep(0.02)

    def close(self) -> None:
        """The window is gone."""
        if self._master >= 0:
            self._closing.set()
            self._reader.join()
            fd, self._master = self._master, -1
            os.close(fd)

    def end(self) -> None:
        self.close()
        try:
            self.shell.wait(10)
        except subprocess.TimeoutExpired:
            self.shell.kill()
            self.shell.wait()
