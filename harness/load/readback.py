"""Ask the target for what it has acknowledged, and the program that does it after a run.

The program is `python -m harness.load read-back`: one `ReadBackStart` on stdin; `ReadBackBegun` and
`ReadBackDone` on stdout. It is a process of its own, so that it can import the locustfile, ends with the run's pipe,
and cannot disturb the load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import gevent.pool
import msgspec

from harness.load.acknowledged import Acknowledged, declared
from harness.load.hosts import hold_to
from harness.load.locustfile import BadLocustfile, load_classes
from harness.load.pipe import MessagePipe, ParentPipe
from harness.load.protocol import ReadBackBegun, ReadBackDone, ReadBackStart
from harness.load.recorder import shortened
from harness.model.acknowledged import Answers
from harness.model.clock import monotonic
from harness.model.jsonl import encode_line

MAX_RATE = 500.0
"""Looks per second."""
AT_ONCE = 16
EXAMPLE = 200
LOOK_S = 5.0
"""For one look."""
AGAIN_S = 1.0
"""At most this often for one id."""
SILENT_S = 15.0
"""A target that has given no usable answer for this long is asked no more."""
SLACK_S = 60.0
"""Beyond the time that the looks and the eventual consistency of the writes themselves take."""
MOST_S = 900.0
"""For all of it, however long a locustfile lets the target take."""

Ask = tuple[str, str]
"""(name of the kind of write, id)."""


def read_back(
    asks: Sequence[Ask],
    client: Any,
    *,
    rate: float,
    silent_s: float = SILENT_S,
    limit_s: float = MOST_S,
    kinds: dict[str, Acknowledged] = declared,
) -> Answers:
    """Look for every one of them, `rate` looks a second, for as long as the kind allows and the target answers, but
    not beyond limit_s seconds: what was found lost by then stays lost."""
    first_missed: dict[Ask, float] = {}
    lost: list[Ask] = []
    there = 0
    heard = monotonic()
    until = heard + limit_s
    example = ""
    pool = gevent.pool.Pool(AT_ONCE)

    def look(ask: Ask) -> None:
        nonlocal there, heard, example
        found, trouble = _look(kinds.get(ask[0]), client, ask[1])
        if found is None:
            example = example or trouble
            again.append(ask)
            return
        heard = monotonic()
        if found:
            there += 1
        elif heard - first_missed.setdefault(ask, heard) >= kinds[ask[0]].within_s:
            lost.append(ask)
        else:
            again.append(ask)

    pending = deque(dict.fromkeys(asks))
    while pending:
        begun = monotonic()
        again: deque[Ask] = deque()
        due = begun
        while pending and monotonic() - heard < silent_s and monotonic() < until:
            gevent.sleep(max(0.0, due - monotonic()))
            due = max(due, monotonic() - 1.0) + 1 / rate
            pool.spawn(look, pending.popleft())
        pool.join(timeout=2 * LOOK_S)
        pending.extend(again)
        if monotonic() - heard >= silent_s:
            break
        if monotonic() >= until:
            example = example or f"not decided within {limit_s:g} s"
            break
        if pending:
            gevent.sleep(max(0.0, begun + AGAIN_S - monotonic()))
    pool.kill()
    unanswered = len(dict.fromkeys(asks)) - there - len(lost)
    return Answers(there=there, lost=tuple(lost), unanswered=unanswered, example=example if unanswered else "")


def limit_of(asks: Sequence[Ask], rate: float, kinds: dict[str, Acknowledged] = declared) -> float:
    """Seconds that looking for all of them may take."""
    within = max((kinds[name].within_s for name, _ in asks if name in kinds), default=0.0)
    return min(MOST_S, 2 * len(asks) / rate + within + SLACK_S)


def _look(kind: Acknowledged | None, client: Any, id_: str) -> tuple[bool | None, str]:
    """(there, not there or no answer; what was the matter)."""
    if kind is None:
        return None, "the locustfile does not declare it any more"
    try:
        with gevent.Timeout(LOOK_S):
            found = kind.ask(client, id_)
    except gevent.Timeout:
        return None, f"no answer within {LOOK_S:g} s"
    except Exception as error:
        return None, shortened(f"{type(error).__name__}: {error}", EXAMPLE)
    return found, "" if found is not None else "no answer that tells"


def session(host: str) -> Any:
    """Locust's fast client for the base URL; its requests are in nobody's statistics."""
    from locust.contrib.fasthttp import FastHttpUser
    from locust.env import Environment

    reader: Any = type(
        "ReadBack",
        (FastHttpUser,),
        {
            "abstract": True,
            "host": host,
            "network_timeout": LOOK_S,
            "connection_timeout": LOOK_S,
            "concurrency": AT_ONCE,
            "max_redirects": 0,
        },
    )
    return reader(Environment()).client


def run(messages: MessagePipe, pipe: ParentPipe, set_up_logging: Callable[[], None]) -> int:
    """The program. Exit code 0; 4 when the locustfile cannot be imported any more."""
    from pathlib import Path

    set_up_logging()
    start = msgspec.json.decode(pipe.first_line(), type=ReadBackStart)
    try:
        load_classes(Path(start.locustfile))
    except BadLocustfile as error:
        unread = Answers(there=0, unanswered=len(start.asks), example=str(error))
        messages.write(encode_line(ReadBackDone(answers=unread)))
        return 4
    hold_to(start.host, start.addresses, start.allow_hosts)
    limit_s = limit_of(start.asks, start.rate)
    messages.write(encode_line(ReadBackBegun(limit_s=limit_s)))
    answers = read_back(start.asks, session(start.host), rate=start.rate, limit_s=limit_s)
    messages.write(encode_line(ReadBackDone(answers=answers)))
    return 0
