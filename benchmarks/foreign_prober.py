"""The independent prober of foreign_services.py: what a caller sees, written down request by request.

    python benchmarks/foreign_prober.py REQUESTS.json LOG.jsonl RATE TIMEOUT

It shares no code with the harness and imports nothing of it. Each request goes out at its own instant, over a
connection of its own, whatever became of those before it. REQUESTS.json: {"host", "port", "requests": [{"name",
"method", "path", "headers", "body", "spread"}]}; `{n}` in a path or a body counts up, `{m}` is that modulo `spread`.
RATE: requests a second of each name.

A line of the log: {"name", "due", "begun", "end", "ok", "why"}, times on CLOCK_MONOTONIC. Ends at SIGTERM, after the
answers that are still open.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO


def encoded(request: dict[str, Any], host: str, port: int, number: int) -> bytes:
    body = (request["body"] or "").replace("{n}", str(number)).encode()
    path = request["path"].replace("{n}", str(number)).replace("{m}", str(number % request["spread"]))
    lines = [
        f"{request['method']} {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *(f"{key}: {value}" for key, value in request["headers"].items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def exchange(host: str, port: int, data: bytes) -> tuple[bool, str]:
    """One request and its whole reply: (is it good, status or what went wrong)."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        status = (await reader.readline()).split()
        if len(status) < 2 or not status[1].isdigit():
            return False, "no reply"
        length: int | None = None
        while (line := await reader.readline()) not in (b"\r\n", b""):
            key, _, value = line.partition(b":")
            if key.strip().lower() == b"content-length":
                length = int(value)
        # Without a length the reply ends with its connection; the services here send one, or close.
        await (reader.read() if length is None else reader.readexactly(length))
        return int(status[1]) < 400, status[1].decode()
    finally:
        writer.transport.abort()  # no TIME_WAIT: 60 connections a second for minutes


async def one(
    target: tuple[str, int], request: dict[str, Any], number: int, due: float, limit: float, log: TextIO
) -> None:
    data, begun = encoded(request, *target, number), time.monotonic()
    try:
        async with asyncio.timeout(due + limit - time.monotonic()):
            ok, why = await exchange(*target, data)
    except TimeoutError:
        ok, why = False, "timeout"
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        ok, why = False, type(error).__name__
    line = {"name": request["name"], "due": due, "begun": begun, "end": time.monotonic(), "ok": ok, "why": why}
    log.write(json.dumps(line) + "\n")


async def main(requests: Path, out: Path, rate: float, limit: float) -> None:
    told = json.loads(requests.read_text("utf-8"))
    target = told["host"], int(told["port"])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    begun, count = time.monotonic(), 0
    names = told["requests"]
    with out.open("w", encoding="utf-8", buffering=1) as log:
        async with asyncio.TaskGroup() as open_requests:
            while not stop.is_set():
                # Names take turns, so that they do not come in bursts.
                due = begun + count / (rate * len(names))
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                request = names[count % len(names)]
                open_requests.create_task(one(target, request, count // len(names), due, limit, log))
                count += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
