"""alerts.jsonl: what became of every alert while a run lasted, asked about once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from harness.adapters.alerts import alertmanager, listener, prometheus
from harness.adapters.alerts.sources import has_our_clock, listening, pinned
from harness.adapters.alerts.told import Active, Told
from harness.adapters.alerts.webhook import Receiver, Standing
from harness.adapters.wire.http import Client
from harness.model.clock import monotonic
from harness.model.errors import HarnessError, Unreachable
from harness.model.jsonl import append_line, encode_line
from harness.model.records.alerts import (
    MAX_NAME,
    UNKNOWN_WAIT_S,
    AlertRow,
    AlertRule,
    AlertsPlan,
    Changed,
    Looked,
    RuleSeen,
    Source,
    State,
)

INTERVAL_S = 1.0
QUIET = ("inactive", "not seen")
"""What is said of an expected alert that no source tells of."""
STOP_LIMIT_S = 3.0
MAX_CHANGES = 50_000
"""Of one source in one experiment: labels that are new at every look must not fill the disk."""
READERS: dict[Source, Callable[[Client, str], Told]] = {
    "prometheus": prometheus.read,
    "alertmanager": alertmanager.read,
    "webhook": listener.read,
}
"""The webhook is asked for where `harness alerts listen` has its port."""


class AlertRecorder:
    """A thread for each source that is polled, one for the webhook. Nothing here can fail a run: what cannot be read is
    a row that says so, and a line when it begins and when it is over. allow_hosts: --allow-host."""

    def __init__(
        self,
        alerts: AlertsPlan,
        say: Callable[[str], None],
        allow_hosts: Collection[str] = (),
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._alerts = alerts
        self._say = say
        self._allow_hosts = allow_hosts
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._books: list[_Book] = []
        self._receiver: Receiver | None = None
        self._t0 = 0.0
        self._out = Path()

    def start(self, t0: float, out: Path) -> None:
        """t0: CLOCK_MONOTONIC reading of the run's zero. Appends to `out`. Returns at once; call it once."""
        self.turn_to(t0, out)
        try:
            alerts = pinned(self._alerts, self._allow_hosts)
            if alerts.webhook is not None:
                self._receive(alerts.webhook)
        except HarnessError as error:
            self._say(f"alerts are not looked at: {error}")
            return
        for source, url in (("prometheus", alerts.prometheus), ("alertmanager", alerts.alertmanager)):
            if url is not None:
                self._poll("prometheus" if source == "prometheus" else "alertmanager", url)

    def turn_to(self, t0: float, out: Path) -> None:
        """From the next look on another run's zero and file, which then begins with all that is active."""
        with self._lock:
            self._t0, self._out = t0, out
            for book in self._books:
                book.forget()

    def active(self, expected: Collection[str]) -> dict[str, float] | None:
        """Which of these are not inactive, by the source that says whether they fire and by Prometheus: how long
        each is worth waiting for. None before the first look; of a source that does not answer nothing is known."""
        with self._lock:
            books = [book for book in self._books if book.source != "webhook"] or self._books
            books = [book for book in books if not book.failing]
            if any(book.looked is None for book in books):
                return None
            found = {one.alert for book in books for one in book.known.values() if one.alert in expected}
            rules = [rule for book in books for rule in book.rules]
        return {
            name: max((rule.wait_s for rule in rules if rule.alert == name), default=UNKNOWN_WAIT_S)
            for name in sorted(found)
        }

    def standing(self, expected: Collection[str]) -> dict[str, str]:
        """The expected alerts and all that are active -> state, as the sources said last; for people to look at."""
        with self._lock:
            books = [book for book in self._books if not book.failing and book.looked is not None]
            found = dict.fromkeys(sorted(expected), QUIET[0] if books else QUIET[1])
            for book in books:
                found |= {one.alert: one.state for one in book.known.values()}
            return found

    def stop(self) -> None:
        """Ends the threads. Safe to repeat, and before start."""
        self._stop.set()
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        for thread in self._threads:
            thread.join(STOP_LIMIT_S)

    def _book(self, source: Source, *, our_clock: bool) -> _Book:
        book = _Book(source, our_clock)
        self._books.append(book)
        return book

    def _receive(self, webhook: str) -> None:
        """From a port of our own, or from the listener that has it. Raises Unreachable where somebody else has."""
        book = _Book("webhook", our_clock=False)
        notified = _Notified(book, self._write)
        try:
            self._receiver = Receiver(*listening(webhook), notified.told, self._say)
        except Unreachable:
            if not listener.answers(webhook):
                raise
            self._poll("webhook", f"http://{webhook}")
            return
        self._books.append(book)
        self._spawn("webhook", notified.tick, lambda: None)

    def _poll(self, source: Source, url: str) -> None:
        book, client, read = self._book(source, our_clock=has_our_clock(url)), Client(), READERS[source]

        def look() -> None:
            asked = monotonic()
            try:
                told = read(client, url)
            except HarnessError as error:
                self._failed(book, str(error))
                return
            if book.failing:
                self._say(f"{source} answers again: alerts are looked at")
                book.failing = False
            self._write(lambda t0: book.compared(told, asked, monotonic(), t0))

        self._spawn(source, look, client.close)

    def _failed(self, book: _Book, why: str) -> None:
        if not book.failing:
            self._say(f"alerts are not seen: {why}")
        book.failing = True
        self._write(lambda t0: [Looked(at=round(monotonic() - t0, 3), source=book.source, trouble=why[:300])])

    def _write(self, rows: Callable[[float], Iterable[AlertRow]]) -> None:
        with self._lock:
            lines = b"".join(encode_line(row) for row in rows(self._t0))
            if lines:
                append_line(self._out, lines)

    def _spawn(self, what: str, work: Callable[[], None], close: Callable[[], None]) -> None:
        begun, told = monotonic(), False

        def repeat() -> None:
            nonlocal told
            tick = 0
            while True:
                try:
                    work()
                except Exception as error:  # whatever it is, the run is worth more than its alerts
                    if not told:
                        self._say(f"alerts of {what} are not recorded: {type(error).__name__}: {error}")
                    told = True
                tick = max(tick + 1, int((monotonic() - begun) / self._interval_s) + 1)
                if self._stop.wait(begun + tick * self._interval_s - monotonic()):
                    close()
                    return

        thread = threading.Thread(target=repeat, name=f"alerts {what}", daemon=True)
        self._threads.append(thread)
        thread.start()


class _Book:
    """What a source said last, and what is new in what it says now."""

    def __init__(self, source: Source, our_clock: bool) -> None:
        self.source = source
        self.failing = False
        self._our_clock = our_clock
        self.forget()

    def forget(self) -> None:
        """Another experiment begins: what is active then is told anew."""
        self.known: dict[str, Active] = {}
        self.rules: frozenset[AlertRule] = frozenset()
        self.looked: float | None = None
        self._changes = 0

    def compared(self, told: Told, asked: float, now: float, t0: float) -> list[AlertRow]:
        """Rows of one look. asked, now: CLOCK_MONOTONIC just before and just after it."""
        wall = time.time()
        rows: list[AlertRow] = []

        def changed(one: Active, state: State, since: float | None) -> None:
            at, clock = now - t0, "seen"
            if self._our_clock and since is not None and self.looked is not None:
                # By its own account, as far as that agrees with what was seen.
                own = since - wall + now
                if self.looked - 0.1 <= own <= now + 0.1:
                    at, clock = min(max(own, self.looked), now) - t0, "own"
            rows.append(
                Changed(
                    at=round(at, 3),
                    not_before=None if self.looked is None else round(self.looked - t0, 3),
                    alert=one.alert[:MAX_NAME],
                    series=one.series,
                    labels=one.labels,
                    state=state,
                    source=self.source,
                    clock="own" if clock == "own" else "seen",
                )
            )

        active = {one.series: one for one in told.active}
        for series, one in self.known.items():
            if series not in active:
                gone: State = "lapsed" if one.state == "pending" else "resolved"
                changed(one, gone, told.evaluated.get(one.alert))
        for series, one in active.items():
            before = self.known.get(series)
            if before is None or before.state != one.state:
                changed(one, one.state, one.since)
        self._changes += len(rows)
        trouble = ""
        if self._changes > MAX_CHANGES:
            rows, trouble = [], f"more than {MAX_CHANGES:,} changes: they are not recorded any more"
        rules = frozenset(told.rules)
        rows += [RuleSeen(at=round(now - t0, 3), rule=rule) for rule in told.rules if rule not in self.rules]
        self.known, self.rules, self.looked = active, rules, asked
        return [*rows, Looked(at=round(now - t0, 3), source=self.source, trouble=trouble)]


class _Notified:
    """What the webhook was told, as rows: at once, and each second that it listens."""

    def __init__(self, book: _Book, write: Callable[[Callable[[float], Iterable[AlertRow]]], None]) -> None:
        self._book = book
        self._write = write
        self._standing = Standing()

    def told(self, found: tuple[Active, ...]) -> None:
        self._standing.told(found)
        self.tick()

    def tick(self) -> None:
        now = monotonic()
        active = self._standing.active
        self._write(lambda t0: self._book.compared(Told(active=active), now, now, t0))
