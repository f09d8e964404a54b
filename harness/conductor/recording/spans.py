"""Spans of a run, its phases and its faults over OTLP, where the environment names a collector.

A courtesy that no run waits for: one thread sends each span when it has ended. What a collector does not take within
LIMIT_S is told once, and nothing more is sent. opentelemetry is the extra `otel`, and its variables mean what they do
everywhere. docs/monitoring.md has the names.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec

from harness.conductor.recording.history import History
from harness.model.records.events import (
    Event,
    FaultInjected,
    FaultMended,
    LoadEnded,
    PhaseStarted,
    Started,
    Undone,
    UndoNotVerified,
    UndoVerified,
)
from harness.model.records.plan import Plan

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
LIMIT_S = 2.0
GOODBYE_S = 3.0
"""How long the end of a run waits for the last spans, where the collector has taken all before."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes a span; seconds since t0. failed: a fault whose undo is not verified."""

    name: str
    start_s: float
    end_s: float
    attributes: dict[str, str]
    failed: bool = False


class Timeline:
    """What an experiment's events mean as stretches of time, each told when it has ended."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._one_shots = {fault.id for fault in plan.faults if fault.for_s is None}
        self._phase: tuple[str, float] | None = None
        self._faults: dict[str, float] = {}
        self._last_s = 0.0

    def note(self, event: Event) -> list[Stretch]:
        self._last_s = max(self._last_s, event.at)
        match event:
            case PhaseStarted(phase=phase, start_s=start_s):
                ended = self._end_phase(start_s)
                self._phase = (phase, start_s)
                return ended
            case LoadEnded(end_s=end_s):
                return self._end_phase(end_s)
            case FaultInjected(fault=fault, at=at, sent_s=sent_s) if fault in self._one_shots:
                return [self._fault(fault, sent_s, at, "one-shot")]
            case FaultInjected(fault=fault, at=at):
                self._faults[fault] = at
            case Undone(fault=fault, at=at) | UndoVerified(fault=fault, at=at):
                return self._end_fault(fault, at, "undone")
            case FaultMended(fault=fault, at=at):
                return self._end_fault(fault, at, "mended by people")
            case UndoNotVerified(fault=fault, at=at):
                return self._end_fault(fault, at, "not verified")
            case _:
                pass
        return []

    def rest(self) -> list[Stretch]:
        """What is open when the experiment is over, and the whole of it."""
        end = self._last_s
        left = [one for fault in tuple(self._faults) for one in self._end_fault(fault, end, "not verified")]
        told = {"harness.experiment": self._plan.experiment, "harness.scenario": self._plan.scenario.name}
        return [*self._end_phase(end), *left, Stretch(name="run", start_s=0.0, end_s=end, attributes=told)]

    def _end_phase(self, end_s: float) -> list[Stretch]:
        begun, self._phase = self._phase, None
        if begun is None:
            return []
        phase, start_s = begun
        attributes = {"harness.phase": phase}
        return [Stretch(name=f"phase {phase}", start_s=start_s, end_s=max(start_s, end_s), attributes=attributes)]

    def _end_fault(self, fault: str, end_s: float, undo: str) -> list[Stretch]:
        start_s = self._faults.pop(fault, None)
        return [] if start_s is None else [self._fault(fault, start_s, end_s, undo)]

    @staticmethod
    def _fault(fault: str, start_s: float, end_s: float, undo: str) -> Stretch:
        attributes = {"harness.fault": fault, "harness.undo": undo}
        failed = undo == "not verified"
        return Stretch(name=f"fault {fault}", start_s=start_s, end_s=end_s, attributes=attributes, failed=failed)


class Spans:
    """Follows the experiments of a session. say: told at most once."""

    def __init__(self, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._endpoint = next(environ[name] for name in ENDPOINTS if environ.get(name))
        self._protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), "http/protobuf")
        self._say = say
        self._heard: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._given_up = False
        self._exporter: Any = None
        self._current: _Trace | None = None
        self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    @classmethod
    def wanted(cls, say: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> Spans | None:
        """None where the environment names no collector, or switches OpenTelemetry off."""
        off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        return cls(environ, say) if not off and any(environ.get(name) for name in ENDPOINTS) else None

    def follow(self, plan: Plan, history: History) -> None:
        """An experiment begins."""
        self._heard.put(partial(self._begin, plan))
        history.listen(lambda event: self._heard.put(partial(self._note, event)))

    def over(self) -> None:
        """The experiment that is followed, if one is, has ended."""
        self._heard.put(self._end)

    def afterwards(self, plan: Plan, events: Sequence[Event]) -> None:
        """The same of one that is over, with its true times."""
        self._heard.put(partial(self._begin, plan))
        for event in events:
            self._heard.put(partial(self._note, event))
        self.over()

    def close(self) -> None:
        """Let the last spans be sent, for a limited time."""
        self._heard.put(None)
        if not self._given_up:
            self._thread.join(GOODBYE_S)

    def _work(self) -> None:
        while (heard := self._heard.get()) is not None:
            try:
                if not self._given_up:
                    heard()
            except ImportError:
                self._give_up("opentelemetry is not installed: pip install 'resilience-harness[otel]'")
            except Exception as error:  # nothing of a run may hang on it
                self._give_up(f"{type(error).__name__}: {error}"[:200])

    def _give_up(self, why: str) -> None:
        self._given_up = True
        self._say(f"the run's spans are not sent: {why}")

    def _begin(self, plan: Plan) -> None:
        self._current = _Trace(plan)

    def _note(self, event: Event) -> None:
        if self._current is not None:
            self._send(self._current, self._current.note(event))

    def _end(self) -> None:
        if self._current is not None:
            self._send(self._current, self._current.rest())
        self._current = None

    def _send(self, trace: _Trace, ended: Sequence[Stretch]) -> None:
        if not ended:
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._exporter is None:
            if self._protocol != "http/protobuf":
                self._give_up(
                    f"of OTEL_EXPORTER_OTLP_PROTOCOL only http/protobuf is known, not {self._protocol[:40]!r}"
                )
                return
            # What it logs of each failure is said here, once.
            logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
            logging.getLogger("opentelemetry").propagate = False
            self._exporter = OTLPSpanExporter(timeout=LIMIT_S)
        if self._exporter.export([trace.span(one) for one in ended]) is not SpanExportResult.SUCCESS:
            at = urlsplit(self._endpoint)
            # Without what a URL may hold beside: a password.
            self._give_up(f"the collector at {at.hostname}:{at.port or 'its port'} did not take them in {LIMIT_S:g} s")


class _Trace(Timeline):
    """As one trace, whose root is the run."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        draw = random.SystemRandom().getrandbits
        self._trace_id, self._root, self._draw = draw(128), draw(64), draw
        self._run = plan.load.run
        self._epoch_ns = 0

    def note(self, event: Event) -> list[Stretch]:
        if isinstance(event, Started):
            self._epoch_ns = round(datetime.fromisoformat(event.wall).timestamp() * 1e9)
        return super().note(event)

    def span(self, one: Stretch) -> Any:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

        def context(span_id: int) -> SpanContext:
            return SpanContext(self._trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

        root = one.name == "run"
        given = {"service.name": "resilience-harness"} if not os.environ.get("OTEL_SERVICE_NAME") else {}
        return ReadableSpan(
            one.name,
            context=context(self._root if root else self._draw(64)),
            parent=None if root else context(self._root),
            resource=Resource.create({**given, "harness.run": self._run}),
            attributes=one.attributes,
            status=Status(StatusCode.ERROR if one.failed else StatusCode.UNSET),
            start_time=self._epoch_ns + round(one.start_s * 1e9),
            end_time=self._epoch_ns + round(one.end_s * 1e9),
        )
