"""Where worker threads leave what the main thread is to do next."""

from __future__ import annotations

import queue
from typing import TypeVar

T = TypeVar("T")


class Inbox(queue.Queue[T]):
    """Any thread puts, the main thread gets, with a time limit.

    Not queue.SimpleQueue: a signal that arrives in the last moments of its `get(timeout=...)` makes CPython compute a
    negative rest, which it takes for "no limit". The main loop then sleeps until somebody happens to put something,
    does not renew its lease, and is killed by its keeper. queue.Queue checks for that.
    """
