"""Group commit: a request is told of the commit that holds its rows, whatever else was being written meanwhile.

A real database cannot be held in the middle of a commit for as long as a test needs, so these write to one that can.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from harness.model.resources import resource

sys.path.insert(0, str(resource("compose", "api")))

from anomaly_api.database import Row
from anomaly_api.defects import DEFECTS, HARDENED, Behaviour
from anomaly_api.pool import Unavailable
from anomaly_api.settings import Settings
from anomaly_api.writer import Writer

ROW = Row("0x1", "0xa", "0xb", 1.0, 1, 1, datetime.now(UTC), False, 0.9, None, "v", datetime.now(UTC))
FOR_EVER_S = 60.0


class Held:
    """Each write waits until the test says how it ends."""

    def __init__(self) -> None:
        self.connections = SimpleNamespace(up=True)
        self.begun = asyncio.Event()
        self.ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.written: list[str] = []

    async def write(self, rows: Sequence[Row], _budget_s: float) -> None:
        self.begun.set()
        await self.ends
        self.written += [row.hash for row in rows]


async def added_during_a_write(behaviour: Behaviour, error: Exception | None) -> tuple[list[Any], Held]:
    """Two requests with the same row, the second while the row is being written: how the two ended."""
    database = Held()
    settings = replace(Settings(), behaviour=behaviour, db_budget_s=FOR_EVER_S)
    writer = Writer(settings, database)  # type: ignore[arg-type]
    writer.start()
    async with asyncio.timeout(FOR_EVER_S / 2):
        first = asyncio.create_task(writer.add([ROW]))
        await database.begun.wait()
        second = asyncio.create_task(writer.add([ROW]))
        await asyncio.sleep(0)
        if error is None:
            database.ends.set_result(None)
        else:
            database.ends.set_exception(error)
        ends = await asyncio.gather(first, second, return_exceptions=True)
    await writer.stop(0.1)
    return ends, database


@pytest.mark.parametrize("behaviour", [HARDENED, DEFECTS["no-fallback"]])
def test_a_row_that_is_being_written_is_waited_for_no_longer_than_that(behaviour: Behaviour) -> None:
    ends, database = asyncio.run(added_during_a_write(behaviour, None))
    assert ends == [None, None] and database.written == ["0x1"]


def test_no_request_is_told_of_a_row_that_was_dropped() -> None:
    """Without a fallback a failed commit drops what it held; all whose rows went with it are told."""
    ends, database = asyncio.run(added_during_a_write(DEFECTS["no-fallback"], Unavailable("database")))
    assert [type(end) for end in ends] == [Unavailable, Unavailable] and not database.written
