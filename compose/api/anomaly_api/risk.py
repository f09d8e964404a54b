"""Risk scores of accounts, from an HTTP service that may be slow, busy or away: then the score is not known."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import h11
import msgspec

from anomaly_api import __version__
from anomaly_api.insistent import Insistent
from anomaly_api.pool import Pool, Unavailable
from anomaly_api.settings import Settings

TRIAL = f"0x{0:040x}"
MOST_WAIT_S = 5.0
"""However long a Retry-After is."""
_READ = 65536


class _Score(msgspec.Struct, frozen=True):
    score: float


_decode = msgspec.json.Decoder(_Score).decode


class Refusal(Exception):
    """It answered with an error, and the connection is still good. wait_s: how long it asked to be left alone."""

    def __init__(self, status: int, wait_s: float) -> None:
        super().__init__(f"answered {status}")
        self.wait_s = wait_s


class _Http:
    """One connection that is kept: a request, its whole answer, the next request."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT)

    @property
    def usable(self) -> bool:
        return self._protocol.our_state is h11.IDLE and not self._reader.at_eof() and not self._writer.is_closing()

    def abandon(self) -> None:
        self._writer.close()

    async def score(self, account: str) -> float:
        """Raises Refusal; whatever else goes wrong costs the connection."""
        headers = [("Host", self._host), ("User-Agent", f"anomaly-api/{__version__}"), ("Accept", "application/json")]
        request = h11.Request(method="GET", target=f"/v1/score?address={account}", headers=headers)
        sent = (self._protocol.send(request) or b"") + (self._protocol.send(h11.EndOfMessage()) or b"")
        self._writer.write(sent)
        status, wait_s, body = 0, 0.0, bytearray()
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                self._protocol.receive_data(await self._reader.read(_READ))
            elif isinstance(event, h11.Response):
                status = event.status_code
                wait_s = next((_seconds(value) for name, value in event.headers if name == b"retry-after"), 0.0)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionResetError("the risk service hung up")
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        if status != 200:
            raise Refusal(status, wait_s)
        return _decode(body).score


class Risk:
    """score() raises Unavailable. One that asks to be left alone (Retry-After) is."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.risk_url or "")
        self._host, self._port, self._netloc = parts.hostname or "127.0.0.1", parts.port or 80, parts.netloc
        patient = settings.behaviour.upstream_time_outs
        self._budget_s = settings.budget(settings.risk_budget_s) if patient else None
        self._not_before = 0.0
        self.unknown = 0
        self.pool: Pool[_Http] | Insistent[_Http] | None = None
        if settings.risk_url is not None and settings.behaviour.attempts > 1:
            self.pool = Insistent(
                "risk",
                dial=self._dial,
                close=_Http.abandon,
                alive=lambda connection: connection.usable,
                size=settings.risk_pool_size,
                budget_s=self._budget_s,
                attempts=settings.behaviour.attempts,
            )
        elif settings.risk_url is not None:
            self.pool = Pool(
                "risk",
                dial=self._dial_tried,
                close=_Http.abandon,
                alive=lambda connection: connection.usable,
                size=settings.risk_pool_size,
                budget_s=self._budget_s,
                dial_budget_s=settings.budget(settings.connect_budget_s) if patient else None,
                retry_s=settings.reconnect_s,
                refusals=(Refusal,),
            )

    @property
    def up(self) -> bool:
        return self.pool is not None and self.pool.up and time.monotonic() >= self._not_before

    async def score(self, account: str) -> float | None:
        """None where there is no such service."""
        if self.pool is None:
            return None
        if time.monotonic() < self._not_before:
            raise Unavailable("risk")
        try:
            return await self.pool.run(lambda connection: connection.score(account))
        except Refusal as refusal:
            self._not_before = max(self._not_before, time.monotonic() + refusal.wait_s)
            raise Unavailable("risk") from refusal

    async def _dial(self) -> _Http:
        return _Http(self._netloc, *await asyncio.open_connection(self._host, self._port))

    async def _dial_tried(self) -> _Http:
        connection = await self._dial()
        try:
            async with asyncio.timeout(self._budget_s):
                await connection.score(TRIAL)
        except BaseException:
            connection.abandon()
            raise
        return connection


def _seconds(value: bytes) -> float:
    """Of a Retry-After; a date is not understood, and waits for nothing."""
    return min(float(value), MOST_WAIT_S) if value.isdigit() else 0.0
