"""What ten users that wait for a hanging service hide, and whether the harness finds it: in both models.

    python benchmarks/closed_loop_hang.py [--seconds 120] [--hang 30] [--request-timeout 60]

A service answers after 0.1 s and hangs once, for a quarter of the time, without an error: it answers everything when
the hang ends. Ten closed-loop users send nothing meanwhile, so of what was *sent* ten requests in thousands are slow:
naively p95 is 100 ms. Of the requests that were *meant* (100 a second), a quarter came during the hang and waited for
its end, so p95 is hang - 5 % of the time: 24 s of 120. Prints, for each model, the naive p95 (of what was sent), the
p95 that the harness reports, the truth, failures, backfilled requests, and when the generator read as saturated.

With a time-out shorter than the hang (--request-timeout 10) what was meant in the hang fails but for its last 10 s: a
sixth of all requests. Of what was sent, two or three requests a user do. Printed is the share of failures of what was
sent, the share that is judged, and the truth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from harness.load.ipc.protocol import Begin, Edge, LoadMessage, Ready, Stop
from harness.load.process.launcher import LoadProcess
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records.load import LoadPlan, UserClass
from harness.model.records.windows import DeltaRow, MarkRow, Row
from harness.model.sketch import quantile

USERS, ANSWER_S = 10, 0.1
LOCUSTFILE = """
from locust import FastHttpUser, constant, task

class Asker(FastHttpUser):
    wait_time = constant(0)

    @task
    def ask(self):
        self.client.get("/ask")
"""


class Service:
    """Answers after ANSWER_S; while hanging, when the hang ends."""

    def __init__(self) -> None:
        self.port = 0
        ready = threading.Event()

        async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    await asyncio.sleep(ANSWER_S)
                    await self._free.wait()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        async def serve() -> None:
            self._loop, self._free = asyncio.get_running_loop(), asyncio.Event()
            self._free.set()
            server = await asyncio.start_server(exchange, "127.0.0.1", 0, backlog=1000)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        ready.wait()

    def hang(self, on: bool) -> None:
        self._loop.call_soon_threadsafe(self._free.clear if on else self._free.set)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ms, failures as shares of requests. failures: of requests that were sent. saturated: [first, last]
    second of marks that said so.
    """

    model: str
    sent: int
    backfilled: int
    failures: int
    naive_p95_ms: float
    p95_ms: float
    truth_p95_ms: float
    naive_failed: float
    failed: float
    truth_failed: float
    saturated: tuple[float, float] | None


def measure(model: Any, seconds: float, hang_s: float, timeout_s: float, folder: Path) -> Seen:
    service, file = Service(), folder / "asker.py"
    file.write_text(LOCUSTFILE)
    plan = LoadPlan(
        model=model,
        host=f"http://127.0.0.1:{service.port}",
        locustfile=str(file),
        classes=(UserClass(name="Asker"),),
        seed=1,
        users=USERS,
        spawn_rate=1000.0,
        ramp_s=0.0,
        rate=USERS / ANSWER_S if model == "open" else None,
        max_in_flight=20_000,
        request_timeout_s=timeout_s,
    )
    ready, ended = threading.Event(), threading.Event()

    def on_message(message: LoadMessage) -> None:
        if isinstance(message, Ready):
            ready.set()

    windows = folder / f"{model}.jsonl"
    process = LoadProcess.start(
        plan, windows=windows, log=folder / f"{model}.log", on_message=on_message, on_exit=lambda _: ended.set()
    )
    try:
        if not ready.wait(90):
            raise SystemExit(f"the load was not ready: {(folder / f'{model}.log').read_text()[-2000:]}")
        t0 = monotonic() + 0.2
        process.send(Begin(t0=t0))
        begin = (seconds - hang_s) / 2
        process.send(Edge(phase="baseline"))
        time.sleep(t0 + begin - monotonic())
        process.send(Edge(phase="fault"))
        service.hang(True)
        process.send(Stop(end_step=round(seconds * 10)))
        time.sleep(max(0.0, t0 + begin + hang_s - monotonic()))
        service.hang(False)
        if not ended.wait(seconds + 4 * hang_s + 60):
            raise SystemExit("the load did not end")
    finally:
        process.kill()
    # Those that fail have no latency: p95 is of the others.
    failed_s = max(0.0, hang_s - timeout_s)
    truth_ms = 1000 * (hang_s - failed_s + ANSWER_S - 0.05 * (seconds - failed_s))
    return _read(model, windows, truth_ms, failed_s / seconds)


def _read(model: str, windows: Path, truth_ms: float, truth_failed: float) -> Seen:
    everything: Counter[int] = Counter()
    virtual: Counter[int] = Counter()
    failures = virtual_failures = 0
    saturated: list[float] = []
    rows: list[Row] = list(read_lines(windows, Row))
    for row in rows:
        if isinstance(row, MarkRow) and row.saturated:
            saturated.append(row.at)
        if not isinstance(row, DeltaRow):
            continue
        failures += sum(c.unsent_cap + c.unsent_generator + c.failed for c in row.classes.values())
        for counts in row.requests.values():
            failures += sum(counts.fail.values()) - sum(counts.backfilled_fail.values())
            virtual_failures += sum(counts.backfilled_fail.values())
            for into, flat in ((everything, counts.sketch), (virtual, counts.backfilled_sketch)):
                for bucket, n in zip(flat[::2], flat[1::2], strict=True):
                    into[bucket] += n
    sent = everything - virtual
    return Seen(
        model=model,
        sent=sent.total(),
        backfilled=virtual.total() + virtual_failures,
        failures=failures,
        naive_p95_ms=round(quantile(sent, 0.95) or 0.0, 1),
        p95_ms=round(quantile(everything, 0.95) or 0.0, 1),
        truth_p95_ms=round(truth_ms, 1),
        naive_failed=round(failures / (sent.total() + failures), 5),
        failed=round((failures + virtual_failures) / (everything.total() + failures + virtual_failures), 5),
        truth_failed=round(truth_failed, 5),
        saturated=(min(saturated), max(saturated)) if saturated else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--hang", type=float, default=30.0)
    parser.add_argument("--request-timeout", type=float, help="seconds; default: twice the hang")
    parser.add_argument("--model", default="closed,open")
    parser.add_argument("--json", action="store_true", help="one JSON object a model")
    options = parser.parse_args()
    if not 0.05 * options.seconds < options.hang < options.seconds:
        sys.exit("a hang of 5 % of the time or less does not show in p95")
    if not options.json:
        print("| model | sent | backfilled | p95 of what was sent | p95 reported | truth ", end="")
        print("| failed of what was sent | failed, as judged | truth | saturated |")
        print("|---|---|---|---|---|---|---|---|---|---|")
    timeout_s = options.request_timeout or 2 * options.hang
    for model in options.model.split(","):
        with tempfile.TemporaryDirectory() as folder:
            seen = measure(model, options.seconds, options.hang, timeout_s, Path(folder))
        if options.json:
            print(json.dumps(msgspec.to_builtins(seen)), flush=True)
            continue
        when = "never" if seen.saturated is None else f"marks {seen.saturated[0]:.1f} to {seen.saturated[1]:.1f} s"
        print(
            f"| {model} | {seen.sent:,} | {seen.backfilled:,} | {seen.naive_p95_ms / 1000:.2f} s | "
            f"{seen.p95_ms / 1000:.2f} s | {seen.truth_p95_ms / 1000:.2f} s | {seen.naive_failed:.2%} | "
            f"{seen.failed:.2%} | {seen.truth_failed:.2%} | {when} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
