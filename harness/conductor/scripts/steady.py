"""A steady load beside somebody's own code: calls of a function, or GETs of a URL, at a constant rate.

Open: the next one is due whether or not the last one was answered, and its latency counts from when it was due.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness.conductor.scripts.load_result import LoadResult
from harness.model.clock import monotonic
from harness.model.errors import UsageError

MOST_PER_S = 1000.0
MOST_AT_ONCE = 200

Call = Callable[[], object]


class Answer(NamedTuple):
    status_code: int


class SteadyCalls:
    """Begins at once; `stop` ends it. call: one request; an exception, or an answer with a status of 400 or more, is a
    failure. at_most: how many may wait for their answers at once; what is due beyond that has failed."""

    def __init__(
        self, call: Call, rate: float, *, at_most: int = MOST_AT_ONCE, close: Callable[[], None] | None = None
    ):
        if not 0 < rate <= MOST_PER_S:
            raise UsageError(f"{rate:g} requests a second cannot be sent steadily", hint=f"up to {MOST_PER_S:g}")
        self._call = call
        self._rate = rate
        self._close = close
        self._at_most = at_most
        self._lock = threading.Lock()
        self._planned = self._failed = self._open = 0
        self._ok: list[tuple[float, float]] = []
        self._errors: Counter[str] = Counter()
        self._pool = ThreadPoolExecutor(max_workers=at_most, thread_name_prefix="steady-load")
        self._end = threading.Event()
        self._result: LoadResult | None = None
        self._start = monotonic()
        self._until = float("inf")
        self._thread = threading.Thread(target=self._run, name="steady-load", daemon=True)
        self._thread.start()

    def __enter__(self) -> SteadyCalls:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> LoadResult:
        """Nothing more is due; returns when what is open was answered. May be called again."""
        if self._result is None:
            self._until = monotonic()
            self._end.set()
            self._thread.join()
            self._pool.shutdown(wait=True)
            if self._close is not None:
                self._close()
            self._result = LoadResult(
                planned=self._planned,
                ok=len(self._ok),
                failed=self._failed,
                seconds=round(self._until - self._start, 3),
                errors=dict(self._errors),
                latencies_ms=tuple(sorted(latency for latency, _ in self._ok)),
                answered_ms=tuple(sorted(answered for _, answered in self._ok)),
            )
        return self._result

    def _run(self) -> None:
        while True:
            due = self._start + self._planned / self._rate
            if self._end.wait(max(0.0, due - monotonic())) and due > self._until:
                return  # what was due before, and is late because the machine is busy, is still sent
            self._planned += 1
            with self._lock:
                full = self._open >= self._at_most
                self._open += not full
            if full:
                self._count(f"not sent: {self._at_most} were still waiting for their answers")
            else:
                self._pool.submit(self._one, due)

    def _one(self, due: float) -> None:
        begun = monotonic()
        problem: str | None = None
        try:
            answer = self._call()
            status = getattr(answer, "status_code", None)
            if isinstance(status, int) and status >= 400:
                problem = f"status {status}"
        except Exception as error:  # whatever somebody's function raises is a failed request
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        ended = monotonic()
        with self._lock:
            self._open -= 1
            if problem is None:
                self._ok.append((1000 * (ended - due), 1000 * (ended - begun)))
        if problem is not None:
            self._count(problem)

    def _count(self, problem: str) -> None:
        with self._lock:
            self._failed += 1
            self._errors[problem] += 1


def get(url: str, timeout_s: float) -> tuple[Call, Callable[[], None]]:
    """One GET of a URL, from any thread, and what closes the connections that were kept."""
    from harness.adapters.wire.http import Client

    here = threading.local()
    clients: list[Client] = []

    def call() -> Answer:
        if not hasattr(here, "client"):
            here.client = Client()
            clients.append(here.client)
        return Answer(here.client.get(url, timeout_s).status)

    def close() -> None:
        for client in clients:
            client.close()

    return call, close
