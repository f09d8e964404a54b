"""Ask the target for what it has acknowledged: is it there?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gevent
import gevent.pool

from harness.load.record.recorder import shortened
from harness.model.clock import monotonic
from harness.model.records.acknowledged import Answers

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


class Asked(Protocol):
    """A kind of write that a locustfile declares (acknowledged.py)."""

    within_s: float

    def ask(self, client: Any, id_: str) -> bool | None: ...


def read_back(
    asks: Sequence[Ask],
    client: Any,
    kinds: Mapping[str, Asked],
    *,
    rate: float,
    silent_s: float = SILENT_S,
    limit_s: float = MOST_S,
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


def limit_of(asks: Sequence[Ask], kinds: Mapping[str, Asked], rate: float) -> float:
    """Seconds that looking for all of them may take."""
    within = max((kinds[name].within_s for name, _ in asks if name in kinds), default=0.0)
    return min(MOST_S, 2 * len(asks) / rate + within + SLACK_S)


def _look(kind: Asked | None, client: Any, id_: str) -> tuple[bool | None, str]:
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
