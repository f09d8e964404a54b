"""A small open-model load on the sample API: arrivals at random instants, latency from the intended start.

Raw HTTP/1.1 over kept-alive connections, so that the client costs less than the server. The mix is that of the
shipped locustfile: of 200 arrivals 150 single predictions, 25 batches, 15 anomaly queries, 10 health checks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

MIX = (("predict", 0.75), ("batch", 0.125), ("anomalies", 0.075), ("health", 0.05))


@dataclass
class Reply:
    kind: str
    at: float
    seconds: float
    status: int
    problem: str = ""

    @property
    def failed(self) -> bool:
        return self.status != 200 or bool(self.problem)


@dataclass
class Seen:
    replies: list[Reply] = field(default_factory=list)

    def between(self, start: float, end: float) -> Seen:
        return Seen([reply for reply in self.replies if start <= reply.at < end])

    @property
    def error_rate(self) -> float:
        return sum(reply.failed for reply in self.replies) / max(1, len(self.replies))

    def quantile(self, q: float) -> float:
        """Seconds; of successful replies."""
        times = sorted(reply.seconds for reply in self.replies if not reply.failed)
        return times[min(len(times) - 1, int(q * len(times)))] if times else float("inf")

    def summary(self) -> str:
        kinds: dict[str, int] = {}
        for reply in self.replies:
            if reply.failed:
                kinds[f"{reply.kind}:{reply.status}:{reply.problem}"] = (
                    kinds.get(f"{reply.kind}:{reply.status}:{reply.problem}", 0) + 1
                )
        p50, p95, p99 = (self.quantile(q) * 1000 for q in (0.5, 0.95, 0.99))
        worst = ", ".join(f"{name} x{count}" for name, count in sorted(kinds.items(), key=lambda x: -x[1])[:4])
        return (
            f"{len(self.replies)} requests, {self.error_rate:.2%} failed, "
            f"p50 {p50:.0f} p95 {p95:.0f} p99 {p99:.0f} ms {worst}"
        )


class Transactions:
    """Some accounts and transactions, drawn from a seed; half of what is sent was sent before."""

    def __init__(self, seed: int = 1, accounts: int = 200, repeats: float = 0.5) -> None:
        self._random = random.Random(seed)
        self._repeats = repeats
        self._accounts = [f"0x{self._random.getrandbits(160):040x}" for _ in range(accounts)]
        self._sent: list[dict[str, object]] = []

    def one(self) -> dict[str, object]:
        draw = self._random
        if self._sent and draw.random() < self._repeats:
            return draw.choice(self._sent)
        odd = draw.random() < 0.05
        made: dict[str, object] = {
            "hash": f"0x{draw.getrandbits(256):064x}",
            "from_address": draw.choice(self._accounts),
            "to_address": draw.choice(self._accounts),
            "value": draw.lognormvariate(7.0 if odd else 0.5, 1.0),
            "gas": 21_000 if draw.random() < 0.6 else draw.randrange(21_000, 500_000),
            "gas_price": int(draw.lognormvariate(3.4, 0.3) * 1e9),
            "block_number": draw.randrange(18_000_000, 20_000_000),
            "timestamp": datetime.now(UTC).isoformat(),
        }
        if len(self._sent) < 2_000:
            self._sent.append(made)
        else:
            self._sent[draw.randrange(2_000)] = made
        return made


class Client:
    """Connections to one API. Every request is bounded by `limit_s` in total; a late one costs its connection."""

    def __init__(self, port: int, limit_s: float = 10.0) -> None:
        self._port = port
        self._limit_s = limit_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def request(self, method: str, path: str, body: object = None, headers: str = "") -> tuple[int, bytes]:
        """Status and body. Raises TimeoutError, OSError or asyncio.IncompleteReadError."""
        content = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode()
        async with asyncio.timeout(self._limit_s):
            while self._idle and self._idle[-1][0].at_eof():
                self._idle.pop()[1].close()
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(head + content)
                reply = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in reply.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line[15:])
                answer = await reader.readexactly(length)
            except BaseException:
                writer.close()
                raise
        self._idle.append((reader, writer))
        return int(reply[9:12]), answer

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


@asynccontextmanager
async def client(port: int, limit_s: float = 10.0) -> AsyncIterator[Client]:
    made = Client(port, limit_s)
    try:
        yield made
    finally:
        made.close()


class Traffic:
    """Load on a port from start() to stop(). Every answer is checked against what was asked."""

    def __init__(self, port: int, rate: float, *, seed: int = 1, limit_s: float = 10.0, repeats: float = 0.5) -> None:
        self._client = Client(port, limit_s)
        self._rate = rate
        self._random = random.Random(seed)
        self._transactions = Transactions(seed, repeats=repeats)
        self._open: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self.seen = Seen()
        self.acknowledged: list[str] = []

    def start(self) -> None:
        self._task = asyncio.create_task(self._arrive())

    async def stop(self) -> Seen:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._open:
            await asyncio.wait(self._open)
        self._client.close()
        return self.seen

    async def _arrive(self) -> None:
        due = time.monotonic()
        while True:
            due += self._random.expovariate(self._rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._one(due))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _one(self, due: float) -> None:
        draw = self._random.random()
        kind = MIX[-1][0]
        for name, share in MIX:
            if draw < share:
                kind = name
                break
            draw -= share
        status, problem = 0, ""
        try:
            status, problem = await getattr(self, "_" + kind)()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            problem = type(error).__name__
        self.seen.replies.append(Reply(kind, due, time.monotonic() - due, status, problem))

    async def _predict(self) -> tuple[int, str]:
        sent = self._transactions.one()
        status, body = await self._client.request("POST", "/api/v1/predict", {"transaction": sent})
        if status != 200:
            return status, ""
        answer = msgspec.json.decode(body)
        self.acknowledged.append(str(sent["hash"]))
        return status, "" if answer["transaction_hash"] == sent["hash"] else "another's answer"

    async def _batch(self) -> tuple[int, str]:
        sent = [self._transactions.one() for _ in range(self._random.randint(10, 50))]
        status, body = await self._client.request("POST", "/api/v1/batch/predict", {"transactions": sent})
        if status != 200:
            return status, ""
        answer = msgspec.json.decode(body)
        got = [one["transaction_hash"] for one in answer["predictions"]]
        self.acknowledged.extend(got)
        return status, "" if got == [one["hash"] for one in sent] else "another's answer"

    async def _anomalies(self) -> tuple[int, str]:
        limit = self._random.choice((10, 20, 50, 100))
        status, body = await self._client.request("GET", f"/api/v1/anomalies?limit={limit}&severity=high")
        if status != 200:
            return status, ""
        answer = msgspec.json.decode(body)
        right = answer["count"] == len(answer["anomalies"]) <= limit
        return status, "" if right else "wrong count"

    async def _health(self) -> tuple[int, str]:
        status, _ = await self._client.request("GET", "/health")
        return status, ""
