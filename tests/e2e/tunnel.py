"""What `ssh -N -L HERE:THERE ...` does, as one process: python tunnel.py PORT=HOST:PORT ..."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _forward(here: int, host: str, port: int) -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    await (await asyncio.start_server(one, "127.0.0.1", here)).serve_forever()


async def _all(words: Sequence[str]) -> None:
    split = [(word.partition("=")[0], *word.partition("=")[2].rsplit(":", 1)) for word in words]
    await asyncio.gather(*(_forward(int(here), host, int(port)) for here, host, port in split))


if __name__ == "__main__":
    asyncio.run(_all(sys.argv[1:]))
