"""The console's own process: two listeners, one loop. It ends with the run's pipe, and has no say in anything."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from contextlib import suppress

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from harness.console.app import guests_app, operators_app
from harness.console.house import House
from harness.console.protocol import (
    MOST_MESSAGE,
    Answer,
    Boards,
    Failed,
    FromConsole,
    Listen,
    Listening,
    Over,
    Seats,
    ToConsole,
)
from harness.model.jsonl import encode_line

MOST_CONNECTIONS = 300
"""Of one listener; beyond it whoever has said nothing for the longest time goes."""
REQUEST_S = 5.0
"""A request is whole by then, or its connection is closed."""
LAST_WORD_S = 2.0
NICE = 5
"""The load comes first."""
LOOPBACK = "127.0.0.1"


def main() -> None:
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError, ValueError):
        # Strangers' connections must not use up what the operator's listener needs.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve())


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MOST_MESSAGE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    first = await _read(reader)
    if not isinstance(first, Listen):
        return
    house = House(_tell, first.faults, has_guests=bool(first.guests))
    try:
        own = _bound(LOOPBACK, first.port)
        guests = _bound(*_parts(first.guests)) if first.guests else None
    except (OSError, ValueError) as error:
        _tell(Failed(text=str(error)))
        return
    port = own.getsockname()[1]
    servers = [(_server(operators_app(house, port)), own)]
    guests_port = 0
    if guests is not None:
        guests_port = guests.getsockname()[1]
        host = _parts(first.guests)[0]
        servers.append((_server(guests_app(house, host, guests_port), first.certificate, first.key), guests))
    tasks = [asyncio.create_task(server.serve(sockets=[bound])) for server, bound in servers]
    _tell(Listening(port=port, guests_port=guests_port))
    while (message := await _read(reader)) is not None:
        match message:
            case Seats(seats=seats):
                house.seat(seats)
            case Boards():
                house.show(message)
            case Over():
                house.over = True
            case Answer(number=number, text=text):
                house.answered(number, text)
            case _:
                pass
    # The run has gone, or is done. Every stream says which it was and ends; nobody waits for one that is not read.
    house.close()
    until = loop.time() + LAST_WORD_S
    while house.watchers and loop.time() < until:
        await asyncio.sleep(0.02)
    for server, _ in servers:
        server.should_exit = server.force_exit = True
    await asyncio.wait(tasks, timeout=1.0)


async def _read(reader: asyncio.StreamReader) -> ToConsole | None:
    try:
        line = await reader.readline()
        return msgspec.json.decode(line, type=ToConsole) if line else None
    except (ValueError, OSError, msgspec.MsgspecError):
        return None


def _tell(message: FromConsole) -> None:
    with suppress(OSError):
        sys.stdout.buffer.write(encode_line(message))
        sys.stdout.buffer.flush()


def _parts(address: str) -> tuple[str, int]:
    """Raises ValueError."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _bound(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    bound.listen(256)
    return bound


class _Connection(H11Protocol):
    """Nobody is kept out by those who say nothing, or half of something."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()
        waiting = [one for one in self.connections if isinstance(one, _Connection) and one._late is not None]
        if len(self.connections) > MOST_CONNECTIONS and waiting:
            min(waiting, key=lambda one: one._late.when() if one._late is not None else 0.0)._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Whether a request, or the rest of one, is waited for."""
        waits = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if waits and self._late is None:
            self._late = self.loop.call_later(REQUEST_S, self._end)
        elif not waits and self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self.connections.discard(self)
        self.transport.abort()


class _Server(uvicorn.Server):
    """Signals are the run's."""

    def install_signal_handlers(self) -> None:
        pass


def _server(app: object, certificate: str = "", key: str = "") -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=5,
            limit_concurrency=400,
            h11_max_incomplete_event_size=16_384,
            ssl_certfile=certificate or None,
            ssl_keyfile=key or None,
        )
    )


if __name__ == "__main__":
    main()
