"""Waiting until a server answers: with a limit, and at once when it dies."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import tenacity

from harness.model.errors import SetupError
from harness.model.records.process import Launcher

Probe = Callable[[], None]
"""One exchange in the server's own protocol. Raises NotReady or OSError until it is answered as it should be."""

PROBE_TIMEOUT_S = 2.0
LOG_LINES = 6


class NotReady(Exception):
    """The server answered, but not yet as it should. `str` says what it said."""


class Interrupted(SetupError):
    """Setting up was stopped on purpose."""


def fetched(url: str) -> bytes:
    """What a GET is answered with, past every proxy. Raises NotReady, which says what is wrong and names no URL."""
    # urllib, not the adapter: importing requests would cost a tenth of the time a whole stack has to get ready.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PROBE_TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise NotReady(str(getattr(error, "reason", error))) from error


def wait_ready(
    title: str,
    probe: Probe,
    *,
    launcher: Launcher,
    name: str,
    log: Path,
    limit_s: float,
    stop: threading.Event | None = None,
) -> None:
    """Probe every 20 to 100 ms until it succeeds.

    Raises SetupError: the server ended (with its exit code and the last lines of its log), or the limit passed
    (with the last answer). Raises Interrupted when `stop` is set.
    """

    def attempt() -> None:
        if stop is not None and stop.is_set():
            raise Interrupted(f"{title}: stopped while it was starting")
        code = launcher.exit_code(name)
        if code is not None:
            raise SetupError(f"{title} ended with exit code {code} while it was starting{tail(log)}")
        probe()

    try:
        tenacity.Retrying(
            wait=tenacity.wait_exponential(multiplier=0.02, max=0.1),
            stop=tenacity.stop_after_delay(limit_s),
            retry=tenacity.retry_if_exception_type((NotReady, OSError)),
            reraise=True,
        )(attempt)
    except (NotReady, OSError) as error:
        raise SetupError(f"{title} was not ready within {limit_s:.0f} s: {error}{tail(log)}") from error


def tail(log: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log as the rest of a message, or nothing when there are none."""
    last = [line[:300] for line in last_lines(log, lines)]
    return ":" + "".join(f"\n  {line}" for line in last) if last else ""


def last_lines(log: Path, lines: int) -> list[str]:
    """The last lines, control characters made visible. Empty when there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 1024 * lines))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    found = [line.rstrip() for line in text.splitlines() if line.strip()]
    return ["".join(c if c.isprintable() else "?" for c in line) for line in found[-lines:]]
