"""What people want of the experiment that is going on: asked in any thread, answered by its loop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Literal

import msgspec

from harness.conductor.worker_threads import Inbox
from harness.model.records.events import OrderKind

ANSWER_S = 5.0
"""A loop turns every 20 ms; one that does not answer in this time hangs."""
HEALING: tuple[OrderKind, ...] = ("clear", "abort")
"""Done however late."""
OVER = "the experiment is over"


class Asked:
    def __init__(self, order: OrderKind, who: str, seconds: float) -> None:
        self.order: OrderKind = order
        self.who = who
        self.seconds = seconds
        self.answered: Future[str] = Future()

    def answer(self, why_not: str) -> None:
        if not self.answered.done():
            self.answered.set_result(why_not)


class Orders:
    """Of one experiment: what is asked after its end is refused, and can never reach the next one."""

    def __init__(self) -> None:
        self._asked: Inbox[Asked] = Inbox()
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, order: OrderKind, who: str, seconds: float = 0.0) -> str:
        """Blocks until it is done; returns "", or why it is not, a clause. seconds: of an extension."""
        asked = Asked(order, who, seconds)
        with self._lock:
            if self._closed:
                return OVER
            self._asked.put(asked)
        try:
            return asked.answered.result(timeout=ANSWER_S)
        except NotInTime:
            if order in HEALING or not asked.answered.cancel():
                return f"the experiment did not answer within {ANSWER_S:g} s; it is done as soon as it does"
            return f"the experiment did not answer within {ANSWER_S:g} s: nothing was done"

    def later(self, order: OrderKind, who: str) -> None:
        """Ask, and wait for no answer."""
        with self._lock:
            if not self._closed:
                self._asked.put(Asked(order, who, 0.0))

    def taken(self) -> Iterator[Asked]:
        """What was asked since the last time. For the loop."""
        while True:
            try:
                asked = self._asked.get_nowait()
            except queue.Empty:
                return
            if asked.answered.set_running_or_notify_cancel():
                yield asked

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for asked in self.taken():
            asked.answer(OVER)


Choice = Literal["keep", "restore", ""]
"""What is to become of something that is neither as it was before nor as a fault had left it: it stays as it is, and is
the original from now on; the original is restored; or nobody has said."""
QUESTION_S = 60.0
"""How long people have for it. Unanswered it is left alone, and the session ends with what is left."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    choice: Choice = ""
    who: str = ""


class People(msgspec.Struct, frozen=True, kw_only=True):
    """How people take part in an experiment. waits: it goes on until they say so, and nothing else is done; a target
    that does not work meanwhile is theirs to mend. hidden: nobody outside is told of it while it goes on. choose: asks
    people what is to become of a fault's id and what is left of it, a sentence; blocks for QUESTION_S at most."""

    orders: Orders
    waits: bool = False
    hidden: bool = False
    choose: Callable[[str, str], Chosen] = lambda fault, left: Chosen()
