"""A service that breaks and mends at the very instants it is told, in a process of its own, and tells what it did.

    Programmable   starts it, gives it a plan of segments, asks it for the instants at which it really changed
    outage         the segments of each kind of outage that benchmarks and tests use, with the truth about it

Instants are CLOCK_MONOTONIC seconds. How a request is treated is decided by the clock when it has been read, so a
change takes effect at its planned instant whenever a request comes; `Change` says between which two requests it fell.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

Kind = Literal["none", "hard", "60%", "20%", "5%", "slow", "tail", "flapping", "hang"]
KINDS: tuple[Kind, ...] = ("none", "hard", "60%", "20%", "5%", "slow", "tail", "flapping", "hang")
SHARES = {"hard": 1.0, "60%": 0.6, "20%": 0.2, "5%": 0.05}
BACKGROUND = 0.005
"""Of the kind "60%": it fails this often when it is well."""
TAIL = 0.1
SLOW_S = 1.2
LIMIT_S = 0.5
"""The p95 target where it slows down: far under SLOW_S, and far over what a busy machine alone does."""
FLAP_S = 1.0
"""A flapping one is broken for so long and well for so long."""

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"


class Segment(NamedTuple):
    """From start to end: `fail` of the requests get a 500, the others wait delay_s; hang: no answer before the end."""

    start: float
    end: float = math.inf
    fail: float = 0.0
    delay_s: float = 0.0
    hang: bool = False


class Change(NamedTuple):
    """It changed at `at`; the last request before and the first one after were read then (None: there was none)."""

    at: float
    last_before: float | None
    first_after: float


class Outage(NamedTuple):
    """start, end: when requests, by their intended start, are bad and well again by the targets `error_rate < 1%` and
    `p95 < p95_limit(kind)`. None: it was never broken.
    """

    segments: tuple[Segment, ...]
    start: float | None
    end: float | None


def p95_limit(kind: Kind) -> str:
    """Where requests only fail, time is no target: a busy machine is no outage."""
    return f"{LIMIT_S:g}s" if kind in ("slow", "hang") else "5s"


def background(kind: Kind) -> tuple[Segment, ...]:
    """How it behaves before anything is planned."""
    return (Segment(0.0, fail=BACKGROUND),) if kind == "60%" else ()


def outage(kind: Kind, start: float, until: float, end: float) -> Outage:
    """An outage from start to end. until: a tail begins there; math.inf for both while they are not known yet."""
    match kind:
        case "none":
            return Outage((), None, None)
        case "slow":
            return Outage((Segment(start, end, delay_s=SLOW_S),), start, end)
        case "hang":
            # Who asked less than the limit before the end was answered within the limit.
            return Outage((Segment(start, end, hang=True),), start, end - LIMIT_S)
        case "tail":
            return Outage((Segment(start, until, fail=1.0), Segment(until, end, fail=TAIL)), start, end)
        case "flapping":
            # It ends with a broken turn: at `end`, or up to a turn later. Ten minutes of turns while that is open.
            turns = max(1, math.ceil((min(end, start + 600.0) - start - FLAP_S) / (2 * FLAP_S) - 1e-9) + 1)
            begins = [start + 2 * FLAP_S * turn for turn in range(turns)]
            return Outage(tuple(Segment(at, at + FLAP_S, fail=1.0) for at in begins), start, begins[-1] + FLAP_S)
        case "60%":
            parts = (Segment(0.0, start, BACKGROUND), Segment(start, end, 0.6), Segment(end, math.inf, BACKGROUND))
            return Outage(tuple(part for part in parts if part.start < part.end), start, end)
        case _:
            return Outage((Segment(start, end, SHARES[kind]),), start, end)


class Programmable:
    """port: HTTP, every path. echo_port: a plain TCP service in the same process that answers what it is sent."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()
        ports = self._answer()
        self.port: int = ports["port"]
        self.echo_port: int = ports["echo_port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def plan(self, *segments: Segment) -> None:
        """Replace what is planned from now on. Give instants that have not passed: a change cannot be early."""
        with self._lock:
            self._tell({"plan": segments})
            self._answer()

    def admit(self, new: bool) -> None:
        """Whether new connections are accepted or refused. Those that are open are served either way."""
        with self._lock:
            self._tell({"admit": new})
            self._answer()

    def changes(self) -> list[Change]:
        """Every change that a request has met so far."""
        with self._lock:
            self._tell({"report": True})
            return [Change(*change) for change in self._answer()["changes"]]

    def requests(self) -> int:
        with self._lock:
            self._tell({"report": True})
            count: int = self._answer()["requests"]
        return count

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _tell(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class _Service:
    """The state behind every connection, in the server process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.requests = 0
        self.changes: list[Change] = []
        self._segments: list[Segment] = []
        self._now: Segment | None = None
        self._until = math.inf
        self._next_at = -math.inf
        self._last: float | None = None
        self._held: list[Callable[[], None]] = []
        self._random = random.Random(1).random

    def plan(self, segments: list[Segment]) -> None:
        now = time.monotonic()
        self._segments = sorted(segments)
        self._turn(now)
        for end in {s.end for s in segments if s.hang and now < s.end < math.inf}:
            self.loop.call_at(end, self._release)

    def answer(self, transport: asyncio.Transport) -> None:
        now = time.monotonic()
        if now >= self._until:
            self._turn(now)
        if self._next_at > 0:
            self.changes.append(Change(self._next_at, self._last, now))
            self._next_at = -1.0
        self._last = now
        self.requests += 1
        segment = self._now
        if segment is None:
            transport.write(_OK)
        elif segment.hang:
            self._held.append(lambda: transport.write(_OK))
        elif segment.fail and self._random() < segment.fail:
            transport.write(_BAD)
        elif segment.delay_s:
            self.loop.call_later(segment.delay_s, transport.write, _OK)
        else:
            transport.write(_OK)

    def _turn(self, now: float) -> None:
        """What holds now, and until when. A change that was asked for too late is one at this moment."""
        planned = self._until
        before, self._now = self._now, next((s for s in self._segments if s.start <= now < s.end), None)
        edges = [edge for s in self._segments for edge in (s.start, s.end) if edge > now]
        self._until = min(edges, default=math.inf)
        behaviour = [None if s is None else s[2:] for s in (before, self._now)]
        if behaviour[0] != behaviour[1]:
            due = [edge for s in self._segments for edge in (s.start, s.end) if edge <= now]
            self._next_at = max(due) if due and planned <= now else now

    def _release(self) -> None:
        if time.monotonic() >= self._until:
            self._turn(time.monotonic())
        if self._now is None or not self._now.hang:
            held, self._held = self._held, []
            for write in held:
                write()


class _Http(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, service: _Service) -> None:
        self._service = service
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._data:
            data = self._data + data
        while (head := data.find(b"\r\n\r\n")) >= 0:
            size = head + 4
            if not data.startswith(b"GET "):
                lines = data[:head].lower().split(b"\r\n")
                size += next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(data) < size:
                break
            data = data[size:]
            self._service.answer(self.transport)
        self._data = data


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    service = _Service(loop)

    async def listen_on(port: int) -> asyncio.Server:
        return await loop.create_server(lambda: _Http(service), "127.0.0.1", port, backlog=4096)

    http = await listen_on(0)
    http_port: int = http.sockets[0].getsockname()[1]
    echo = await loop.create_server(_Echo, "127.0.0.1", 0, backlog=256)
    ended = asyncio.Event()
    admitting: asyncio.Task[None] | None = None

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), flush=True)

    async def admit() -> None:
        nonlocal http
        http = await listen_on(http_port)
        say({})

    def obey(line: str) -> None:
        nonlocal admitting
        command = json.loads(line)
        if "admit" in command:
            http.close()
            if command["admit"]:
                admitting = loop.create_task(admit())
            else:
                say({})
        elif "plan" in command:
            service.plan([Segment(*segment) for segment in command["plan"]])
            say({})
        else:
            say({"changes": service.changes, "requests": service.requests})

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(obey, line)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=listen, daemon=True).start()
    say({"port": http_port, "echo_port": echo.sockets[0].getsockname()[1]})
    # No pause for collection: what it makes is freed by its count of references.
    gc.disable()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
