"""One Compose project: its commands, run by the launcher, so that they end with the run and what they make is owned."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from harness.model.clock import monotonic
from harness.model.errors import SetupError
from harness.model.records.process import Launcher, ServerSpec
from harness.model.records.stack import Progress
from harness.stack.starting.ready import Interrupted, last_lines

POLL_S = 0.1
WORD_EVERY_S = 10.0
_TELLING = re.compile(r"^\s*(?:Step \d+/|#\d+ \[|Pulling |.* Pulling$|Building )", re.IGNORECASE)
_ERROR = re.compile(r"error|fail|cannot|could not|denied|refused|no such|not found|unhealthy|invalid", re.IGNORECASE)


class ComposeProject(msgspec.Struct, frozen=True, kw_only=True):
    """argv: the compose command. env: complete. logs: folder for what the commands say."""

    argv: tuple[str, ...]
    file: Path
    name: str
    engine: str
    env: dict[str, str]
    logs: Path

    def run(
        self,
        launcher: Launcher,
        what: str,
        *arguments: str,
        title: str,
        limit_s: float,
        say: Progress,
        stopped: Callable[[], bool],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """One command to its end, as a process that the launcher owns. look: called meanwhile; may raise.

        Raises SetupError (its exit code and what it said, or the limit), Interrupted when `stopped`.
        """
        log = self.logs / f"{what}.log"
        spec = ServerSpec(
            name=what,
            argv=(
                *self.argv,
                "--ansi",
                "never",
                "-f",
                str(self.file),
                "--project-directory",
                str(self.file.parent),
                "-p",
                self.name,
                *arguments,
            ),
            env=self.env,
            cwd=str(self.logs),
            log=str(log),
        )
        launcher.launch(spec)
        tail = _Told(log, title, say)
        began, next_word = monotonic(), WORD_EVERY_S
        try:
            while (code := launcher.exit_code(what)) is None:
                waited = monotonic() - began
                if stopped():
                    raise Interrupted(f"{title}: stopped")
                if waited > limit_s:
                    raise SetupError(f"{title}: not done within {limit_s:.0f} s{said(log)}")
                if tail.tell():
                    next_word = waited + WORD_EVERY_S
                elif waited >= next_word:
                    say(f"{title}: {waited:.0f} s")
                    next_word += WORD_EVERY_S
                look()
                time.sleep(POLL_S)
        finally:
            launcher.stop(what)
        if code != 0:
            raise SetupError(f"{title} failed (exit code {code}){said(log)}")


def said(log: Path) -> str:
    """The lines of a command's output that tell why it failed, as the rest of a message."""
    lines = last_lines(log, 60)
    telling = [line for line in lines if _ERROR.search(line)] or lines
    return "".join(f"\n  {line[:300]}" for line in telling[-4:])


class _Told:
    """Passes on the lines of a log that say how far a command is: images that are fetched, steps of a build."""

    def __init__(self, log: Path, title: str, say: Progress) -> None:
        self._log = log
        self._title = title
        self._say = say
        self._at = 0
        self._rest = b""
        self._last = ""

    def tell(self) -> bool:
        try:
            with self._log.open("rb") as file:
                file.seek(self._at)
                data = file.read(1 << 20)
        except OSError:
            return False
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        told = False
        for raw in whole:
            line = "".join(c if c.isprintable() else " " for c in raw.decode("utf-8", "replace")).strip()
            if _TELLING.match(line) and line != self._last:
                self._last, told = line, True
                self._say(f"{self._title}: {line[:100]}")
        return told
