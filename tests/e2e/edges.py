"""When did a path through a proxy really break and mend? Looks at it every 2 ms, in a process of its own.

    Watcher    watches HOST:PORT until `stop`, which returns all it saw
    cut, opened, slowed, quickened   the bracket, in CLOCK_MONOTONIC seconds, in which an edge really lies

One connection carries a ping every 2 ms, answered or not; while there is none, a new one is tried as often. A ping is
any text that the service answers with as many bytes as `answer` has.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

EVERY_S = 0.002

Bracket = tuple[float, float]


class Ping(NamedTuple):
    sent: float
    answered: float


class Seen(NamedTuple):
    """pings: answered ones, in the order of sending. losses: (last answer before, noticed). refusals: (begun, over).

    openings: (begun, accepted). All by time.
    """

    pings: list[Ping]
    losses: list[Bracket]
    refusals: list[Bracket]
    openings: list[Bracket]


class Watcher:
    def __init__(self, host: str, port: int, ping: bytes = b"hello\n", answer: bytes = b"hello\n") -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), host, str(port), ping.decode(), str(len(answer))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def stop(self) -> Seen:
        out, _ = self._process.communicate(b"\n", timeout=60)
        seen = json.loads(out)
        return Seen([Ping(*ping) for ping in seen[0]], *([(a, b) for a, b in part] for part in seen[1:]))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def cut(seen: Seen, about: float) -> Bracket | None:
    """The loss of a connection nearest to `about`: after the last answer, before it was noticed."""
    return _nearest(seen.losses, about)


def opened(seen: Seen, about: float) -> Bracket | None:
    """From the last refusal to the first connection accepted after it."""
    found = []
    for begun, accepted in seen.openings:
        before = [refused for refused, _ in seen.refusals if refused < begun]
        if before and begun - before[-1] < 0.5:
            found.append((before[-1], accepted))
    return _nearest(found, about)


def slowed(seen: Seen, about: float, by_s: float) -> Bracket | None:
    """From the last answer that came in time to the first ping whose answer did not.

    A toxic holds answers back, so it was not there when the last quick one passed, and was when the first slow one
    would have: no more than a quick round trip after it was sent.
    """
    return _nearest(_turns(seen, by_s, slow=True), about)


def quickened(seen: Seen, about: float, by_s: float) -> Bracket | None:
    """From the last answer that was held back for the whole time to the first that was let go before it.

    Toxiproxy lets everything go that a removed toxic still holds.
    """
    return _nearest(_turns(seen, by_s, slow=False), about)


def _turns(seen: Seen, by_s: float, *, slow: bool) -> list[Bracket]:
    found = []
    for at, (before, after) in enumerate(zip(seen.pings, seen.pings[1:], strict=False), 1):
        if after.sent - before.sent > 0.5:
            continue  # another connection
        was, now = before.answered - before.sent, after.answered - after.sent
        if slow and was < by_s / 2 and now >= by_s * 0.95:
            found.append((before.sent, after.sent + was))
        elif not slow and was >= by_s * 0.95 > now:
            # Those let go together with it that had been held nearly as long as they would have been tell nothing.
            earlier = (ping.answered for ping in reversed(seen.pings[:at]) if ping.answered < after.answered)
            found.append((next(earlier, before.sent), after.answered))
    return found


def _nearest(found: list[Bracket], about: float) -> Bracket | None:
    near = [bracket for bracket in found if abs(bracket[1] - about) < 2.0]
    return min(near, key=lambda bracket: abs(bracket[1] - about), default=None)


def _watch(host: str, port: int, ping: bytes, size: int) -> Seen:
    seen = Seen([], [], [], [])
    connection: socket.socket | None = None
    waiting: list[float] = []
    got = 0
    last = due = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        if connection is None:
            begun = time.monotonic()
            try:
                connection = socket.create_connection((host, port), 1.0)
            except OSError:
                seen.refusals.append((begun, time.monotonic()))
                time.sleep(EVERY_S)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            last = due = time.monotonic()
            seen.openings.append((begun, last))
            waiting, got = [], 0
        try:
            if time.monotonic() >= due:
                waiting.append(time.monotonic())
                connection.send(ping)
                due = max(due + EVERY_S, time.monotonic())
            if select.select([connection], [], [], max(0.0, due - time.monotonic()))[0]:
                data = connection.recv(65536)
                now = time.monotonic()
                if not data:
                    raise ConnectionResetError
                last = now
                got += len(data)
                whole, got = divmod(got, size)
                seen.pings.extend(Ping(sent, now) for sent in waiting[:whole])
                del waiting[:whole]
        except BlockingIOError:
            pass
        except OSError:
            seen.losses.append((last, time.monotonic()))
            connection.close()
            connection = None
    return seen


if __name__ == "__main__":
    print(json.dumps(_watch(sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4]))))
