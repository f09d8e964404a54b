"""A small FastAPI service whose own /openapi.json is what tests of `harness init --openapi` read."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, Field


class Order(BaseModel):
    item: int = Field(examples=[7])
    note: str | None = None


def app() -> FastAPI:
    found = FastAPI(title="shop")

    @found.get("/health")
    def health() -> dict[str, bool]:
        return {"ok": True}

    @found.get("/items", summary="All items")
    def items(limit: int = 10) -> list[int]:
        return list(range(limit))

    @found.get("/items/{item_id}")
    def item(item_id: int) -> dict[str, int]:
        return {"item": item_id}

    @found.get("/search")
    def search(q: str = Query(examples=["green tea"])) -> list[str]:
        return [q]

    @found.get("/account")
    def account() -> None:
        raise HTTPException(401)

    @found.post("/orders")
    def order(order: Order) -> Order:
        return order

    return found


@contextlib.contextmanager
def shop() -> Iterator[str]:
    """Its URL, while it serves on a free port of 127.0.0.1."""
    server = uvicorn.Server(uvicorn.Config(app(), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < end and thread.is_alive(), "the shop did not start"
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
