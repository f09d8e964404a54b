"""samples.jsonl: CPU, memory, machine and Prometheus signals, about once a second while a run lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.adapters.clients.prometheus_text import signals
from harness.adapters.keeper import starter
from harness.adapters.processes.usage import Identity, Machine, Processes, Tree, identify
from harness.adapters.wire.http import Client
from harness.adapters.wire.new_connection_probe import FreshConnection
from harness.dependencies.counters import Counters
from harness.dependencies.registry import kind_of
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Gone, UsageError
from harness.model.jsonl import append_line, encode_line
from harness.model.records.faults import Dependency
from harness.model.records.samples import Fresh, ProcessUse, Sample
from harness.model.records.stack import TargetInfo

if TYPE_CHECKING:
    from harness.adapters.docker.engine import Engine
    from harness.adapters.docker.stats import ContainerUse

INTERVAL_S = 1.0
METRICS_TIMEOUT_S = 0.8
METRICS_LEAD_S = 0.15
"""Metrics are read this long before each sample, so that a sample's signals are as old in every row."""
FRESH_TIMEOUT_S = 1.0
"""A target that admits nobody new keeps them waiting: by then the next one is due."""
ENGINE_TIMEOUT_S = 2.0
STOP_LIMIT_S = 2.0

_Work = tuple[Callable[[], None], Callable[[], None]]


class Sampler:
    """Threads: one samples and writes, one reads the metrics page, one asks the target on fresh connections, one each a
    Docker engine and the counters of one dependency: those may hang without delaying the first.

    Nothing here can fail a run: what cannot be read is left out, and `problem` says what was last wrong. say: told once
    about each server whose container cannot be read any more, and once when it can again. allow_hosts: --allow-host,
    for Docker engines elsewhere.
    """

    def __init__(
        self,
        *,
        interval_s: float = INTERVAL_S,
        say: Callable[[str], None] = lambda _: None,
        allow_hosts: Collection[str] = (),
    ) -> None:
        self.problem: str | None = None
        self._interval_s = interval_s
        self._say = say
        self._allow_hosts = allow_hosts
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._signals: dict[str, float] = {}
        self._contained: dict[str, ProcessUse] = {}
        self._counted: dict[str, dict[str, float]] = {}
        self._fresh: Fresh | None = None
        self._latest: Sample | None = None
        self._t0 = 0.0
        self._out = Path()

    def start(self, t0: float, target: TargetInfo, dependencies: Sequence[Dependency], out: Path) -> None:
        """t0: CLOCK_MONOTONIC reading of the run's zero. Appends to `out`. Returns at once; call it once."""
        begun = monotonic()
        self.turn_to(t0, out)
        self._spawn("samples", 0.0, begun, self._sample, _servers(target, dependencies))
        if target.metrics_url is not None:
            self._spawn("metrics", METRICS_LEAD_S, begun, self._scrape, target.metrics_url)
        if target.url.startswith(("http://", "https://")):
            self._spawn("fresh connections", 0.0, begun, self._connect, target)
        for engine, names in _containers(target, dependencies).items():
            self._spawn("containers", METRICS_LEAD_S, begun, self._watch, engine, names)
        for one in dependencies:
            if kind_of(one).countable(one):
                self._spawn(f"counters of {one.name}", METRICS_LEAD_S, begun, self._count, one)

    def turn_to(self, t0: float, out: Path) -> None:
        """From the next sample on another run's zero and file."""
        with self._lock:
            self._t0, self._out = t0, out

    def latest(self) -> Sample | None:
        """The newest sample, for the live view."""
        return self._latest

    def stop(self) -> None:
        """Ends both threads. Safe to repeat, and before start."""
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_LIMIT_S)

    def _spawn(self, what: str, lead_s: float, begun: float, make: Callable[..., _Work], *args: object) -> None:
        """In a thread of its own: make(*args) says what is done each interval, so long before every sample, and what
        at the end."""
        begun -= min(lead_s, self._interval_s / 2)

        def repeat() -> None:
            work, close = make(*args)
            tick = 0
            while True:
                try:
                    work()
                except AdapterError as error:
                    self.problem = f"{what}: {error}"
                except Exception as error:  # whatever it is, the run is worth more than its samples
                    self.problem = f"{what}: {type(error).__name__}: {error}"
                # The next tick that is still to come: those missed on a busy machine are skipped, not made up for.
                tick = max(tick + 1, int((monotonic() - begun) / self._interval_s) + 1)
                if self._stop.wait(begun + tick * self._interval_s - monotonic()):
                    close()
                    return

        thread = threading.Thread(target=repeat, name=f"sampler {what}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _sample(self, servers: Sequence[_Server]) -> _Work:
        whole = Machine()

        def work() -> None:
            with self._lock:  # what was read since the last sample: what hangs leaves a gap, not a repeat
                contained, self._contained = self._contained, {}
                counted, self._counted = self._counted, {}
                found, self._signals = self._signals, {}
                fresh, self._fresh = self._fresh, None
                t0, out = self._t0, self._out
            processes = Processes()
            trees = {server.name: use for server in servers if (use := server.read(processes)) is not None}
            machine = whole.read()
            self._latest = Sample(
                at=round(processes.at - t0, 3),
                trees=trees | contained,
                signals=found,
                net_bytes_s=machine.net_bytes_s,
                disk_bytes_s=machine.disk_bytes_s,
                machine_cpu=machine.cpu,
                counters={name: {**row, "at": round(row["at"] - t0, 3)} for name, row in counted.items()},
                fresh=None if fresh is None else msgspec.structs.replace(fresh, at=round(fresh.at - t0, 3)),
            )
            append_line(out, encode_line(self._latest))

        return work, lambda: None

    def _scrape(self, url: str) -> _Work:
        client = Client()

        def work() -> None:
            found = signals(_page(client, url))
            with self._lock:
                self._signals = found

        return work, client.close

    def _connect(self, target: TargetInfo) -> _Work:
        """Ask the target as somebody new would: the load keeps its connections."""
        probe = FreshConnection(target.url + (target.health or "/"), target.addresses)

        def work() -> None:
            asked = monotonic()
            ok = probe.ask(FRESH_TIMEOUT_S)
            took_ms = round((monotonic() - asked) * 1000, 3)
            with self._lock:
                self._fresh = Fresh(at=asked, ok=ok, ms=took_ms)

        return work, lambda: None

    def _watch(self, url: str, containers: dict[str, tuple[str, ...]]) -> _Work:
        """Ask one engine about its containers."""
        watch = _Containers(url, containers, self._tell, self._allow_hosts)

        def work() -> None:
            found = watch.read()
            with self._lock:
                self._contained.update(found)

        return work, watch.close

    def _count(self, dependency: Dependency) -> _Work:
        """One dependency's counters; one that does not answer leaves a gap."""
        counters = Counters(dependency)

        def work() -> None:
            asked = monotonic()
            found = counters.read()
            found["at"] = (asked + monotonic()) / 2
            with self._lock:
                self._counted[dependency.name] = found

        return work, counters.close

    def _tell(self, text: str, *, bad: bool) -> None:
        if bad:
            self.problem = text
        if not self._stop.is_set():
            self._say(text)


class _Server:
    """One tree: what it is called, and which process it is now, for it may be started again during a run."""

    def __init__(self, name: str, pid: int, declared: Dependency | None) -> None:
        self.name = name
        self._declared = declared
        self._root = _identity(pid)
        self._tree = Tree(self._root) if self._root is not None else None

    def read(self, processes: Processes) -> ProcessUse | None:
        """None while it does not run: the row says so by leaving it out."""
        try:
            if self._tree is not None:
                return self._tree.read(processes)
        except AdapterError:
            pass
        return self._successor()

    def _successor(self) -> ProcessUse | None:
        root = self._now()
        if root is None or root == self._root:
            return None
        self._root = root
        if self._tree is None:
            self._tree = Tree(root)
        else:
            self._tree.follow(root)
        try:
            return self._tree.read()
        except AdapterError:
            return None

    def _now(self) -> Identity | None:
        """Whoever owns it is asked, once a sample while it is gone."""
        if self._declared is None or self._declared.runtime != "process":
            return None
        try:
            found = starter.serving(self._declared)
        except AdapterError:
            return None
        return _identity(found.pid) if found is not None else None


def _servers(target: TargetInfo, dependencies: Sequence[Dependency]) -> list[_Server]:
    """The target under its own name, whatever faults call it, and every dependency whose process is known."""
    itself = next((one for one in dependencies if one.target), None)
    found = [_Server("target", target.pid, itself)] if target.pid else []
    return found + [
        _Server(one.name, one.process.pid, one) for one in dependencies if one.process.pid and not one.target
    ]


def _containers(target: TargetInfo, dependencies: Sequence[Dependency]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Engine -> name of the server -> full IDs of its containers."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    if target.engine and target.containers:
        found.setdefault(target.engine, {})["target"] = target.containers
    for one in dependencies:
        if one.container.engine and one.container.id and not one.target:
            found.setdefault(one.container.engine, {})[one.name] = (one.container.id,)
    return found


class _Containers:
    """The containers of one engine. One that is gone, or an engine that does not answer, is told once."""

    def __init__(
        self,
        url: str,
        containers: dict[str, tuple[str, ...]],
        tell: Callable[..., None],
        allow_hosts: Collection[str],
    ) -> None:
        from harness.adapters.docker.stats import ContainerUse

        self._url = url
        self._tell = tell
        self._allow_hosts = allow_hosts
        self._engine: Engine | None = None
        self._uses: dict[str, ContainerUse] = {name: ContainerUse(ids) for name, ids in containers.items()}
        self._missing: set[str] = set()

    def read(self) -> dict[str, ProcessUse]:
        """Every server that runs and could be read."""
        found: dict[str, ProcessUse] = {}
        try:
            if self._engine is None:
                from harness.adapters.docker.engine import connect

                self._engine = connect(self._url, allow_hosts=self._allow_hosts, timeout_s=ENGINE_TIMEOUT_S)
            for name, use in self._uses.items():
                try:
                    seen = use.read(self._engine)
                except Gone as error:
                    self._lost(name, f"{name}: CPU and memory are not measured: {error}")
                    continue
                if seen is not None:
                    found[name] = seen
                    self._found(name, f"{name}: CPU and memory are measured again")
        except (AdapterError, UsageError) as error:
            self._lost("", f"CPU and memory of containers are not measured: {error}")
        else:
            self._found("", f"CPU and memory of containers are measured again ({self._url})")
        return found

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _lost(self, name: str, text: str) -> None:
        if name not in self._missing:
            self._missing.add(name)
            self._tell(text, bad=True)

    def _found(self, name: str, text: str) -> None:
        if name in self._missing:
            self._missing.discard(name)
            self._tell(text, bad=False)


def _identity(pid: int) -> Identity | None:
    try:
        return identify(pid)
    except AdapterError:
        return None


def _page(client: Client, url: str) -> str:
    reply = client.get(url, METRICS_TIMEOUT_S)
    if reply.status != 200:
        raise AdapterError(f"{url} answered {reply.status}")
    return reply.text
