"""Running a tool while a stack is set up: with a limit, its output at hand, and stopped when we are."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.model.errors import SetupError
from harness.stack.starting.ready import Interrupted

OUTPUT_LINES = 4
WORD_EVERY_S = 10.0


class Child:
    """A command in its own session, so that a signal for us does not tear its files and stopping it reaches all of it.

    argv: complete. env: complete. user: name to run as; None: ours. stdin: text to feed it, or None.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: Path,
        user: str | None = None,
        stdin: str | None = None,
    ) -> None:
        self._argv = argv
        self._env = dict(env)
        self._cwd = cwd
        self._user = user
        self._stdin = stdin

    def run(
        self,
        *,
        failed: str,
        hint: str | None = None,
        limit_s: float,
        on_line: Callable[[str], None] | None = None,
        on_wait: Callable[[float], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[str]:
        """Run to the end; its last 200 lines of output. on_line: called with every line; on_wait: every ten seconds,
        with the seconds so far.

        Raises SetupError beginning with `failed` (exit code and last lines, or the limit), Interrupted on `stop`.
        """
        lines: deque[str] = deque(maxlen=200)
        try:
            process = subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL if self._stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                user=self._user,
                group=_group(self._user),
                extra_groups=None if self._user is None else (),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SetupError(f"{failed}: {error}", hint=hint) from error

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                text = line.rstrip()
                if text:
                    lines.append(text)
                    if on_line is not None:
                        on_line(text)

        reader = threading.Thread(target=read, name=f"output of {Path(self._argv[0]).name}", daemon=True)
        reader.start()
        try:
            if self._stdin is not None:
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(self._stdin)
            began, next_word = time.monotonic(), WORD_EVERY_S
            while True:
                try:
                    process.wait(timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    waited = time.monotonic() - began
                if on_wait is not None and waited >= next_word:
                    on_wait(waited)
                    next_word += WORD_EVERY_S
                if stop is not None and stop.is_set():
                    raise Interrupted(f"{failed}: stopped")
                if waited > limit_s:
                    raise SetupError(f"{failed}: not done within {limit_s:.0f} s", hint=hint)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reader.join(timeout=5)
            if process.stdout is not None:
                process.stdout.close()
        if process.returncode != 0:
            raise SetupError(f"{failed} (exit code {process.returncode}){_said(list(lines))}", hint=hint)
        return list(lines)


def answer_of(
    *argv: str | Path, env: Mapping[str, str] | None = None, limit_s: float = 20.0
) -> subprocess.CompletedProcess[str] | None:
    """A program that only says something, its version say, run to its end; None when it cannot be run, or hangs."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            env=env,
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _said(lines: list[str]) -> str:
    telling = [line for line in lines if re.search(r"error|fail|cannot|could not|denied|refused|no such", line, re.I)]
    return "".join(f"\n  {line[:300]}" for line in (telling or lines)[-OUTPUT_LINES:])


def _group(user: str | None) -> int | None:
    import pwd

    return None if user is None else pwd.getpwnam(user).pw_gid
