"""A steady load of a Locust file: the load process of a run, without the run."""

from __future__ import annotations

import queue
import tempfile
from pathlib import Path

import msgspec

from harness.adapters.allowed_hosts import check_url, url_address
from harness.analysis.record.window_reader import WINDOWS, WindowReader
from harness.analysis.record.windows import WindowStore
from harness.conductor.prepare import Planned
from harness.conductor.scripts.load_result import LoadResult
from harness.conductor.worker_threads import Inbox
from harness.load.ipc.protocol import Begin, Failed, LoadMessage, Ready, Stop
from harness.load.process.launcher import LoadProcess
from harness.model.clock import monotonic, step_of, step_start
from harness.model.errors import LoadError
from harness.model.sketch import bucket_value

LEAD_S = 0.3
READY_S = 60.0
DRAIN_S = 30.0
"""Beside the time that a request may take."""


class SteadyLocust:
    """Begins when it is made; `stop` ends it. Where this process dies the load ends with its pipe.

    Raises LoadError, UsageError.
    """

    def __init__(self, planned: Planned) -> None:
        host = planned.plan.load.host
        load = msgspec.structs.replace(
            planned.plan.load, addresses=tuple(check_url(host, (url_address(host)[0],), allow_hosts=planned.allowed))
        )
        self._plan = msgspec.structs.replace(planned.plan, load=load)
        self._folder = tempfile.TemporaryDirectory(prefix="steady-load-")
        self._windows = Path(self._folder.name) / WINDOWS
        self._said: Inbox[LoadMessage | int] = Inbox()
        self._result: LoadResult | None = None
        self._log = Path(self._folder.name) / "load.log"
        try:
            self._process = LoadProcess.start(
                load, windows=self._windows, log=self._log, on_message=self._said.put, on_exit=self._said.put
            )
        except BaseException:
            self._folder.cleanup()
            raise
        try:
            self._wait(Ready, READY_S)
            self._t0 = monotonic() + LEAD_S
            self._process.send(Begin(t0=self._t0))
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> SteadyLocust:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> LoadResult:
        """Nothing more is due; returns when what is open has ended. May be called again. Raises LoadError."""
        if self._result is None:
            try:
                end = step_of(max(self._t0, monotonic()) + LEAD_S - self._t0) + 1
                self._process.send(Stop(end_step=end))
                self._wait(int, self._plan.load.request_timeout_s + DRAIN_S)
                self._result = self._counted(end)
            finally:
                self._close()
        return self._result

    def _wait(self, wanted: type[Ready] | type[int], limit_s: float) -> None:
        until = monotonic() + limit_s
        while (left := until - monotonic()) > 0:
            try:
                said = self._said.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(said, wanted) and said != 0 and isinstance(said, int):
                raise LoadError(f"the load process ended with exit status {said}", hint=self._last_line())
            if isinstance(said, wanted):
                return
            if isinstance(said, Failed):
                raise LoadError(f"the steady load could not go on: {said.text}", hint=self._last_line())
            if isinstance(said, int):
                raise LoadError(f"the load process ended with exit status {said}", hint=self._last_line())
        raise LoadError(f"the steady load was not as far within {limit_s:g} s", hint=self._last_line())

    def _last_line(self) -> str | None:
        return self._log.read_text(errors="replace").strip().rpartition("\n")[2][:300] or None

    def _close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._folder.cleanup()

    def _counted(self, end: int) -> LoadResult:
        store, reader = WindowStore(self._plan), WindowReader(self._windows, self._plan)
        try:
            for row in reader.poll():
                store.add(row)
        finally:
            reader.close()
        totals = store.totals(0, max(end, store.end))  # with what an iteration sent after the stop
        buckets = sorted(one for name in totals.names.values() for one in name.sketch.items())
        latencies = tuple(bucket_value(bucket) for bucket, count in buckets for _ in range(count))
        unsent = totals.arrivals.unsent_generator
        return LoadResult(
            planned=totals.attempts,
            ok=totals.attempts - totals.bad,
            failed=totals.bad,
            seconds=step_start(end),
            errors={f"{name}: {kind}" if name else kind: seen.count for (kind, name), seen in store.errors.items()},
            latencies_ms=latencies,
            answered_ms=latencies,
            saturated=unsent > 0 or any(mark.saturated for one in store.workers.values() for mark in one.marks),
        )
