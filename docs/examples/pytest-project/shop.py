"""Prices, which take a moment to work out and are kept in Redis. The weakness: without Redis there are none."""

import os
import time

import redis
from fastapi import FastAPI

app = FastAPI()
cache = redis.Redis.from_url(os.environ["REDIS_URL"])


def worked_out(item: str) -> int:
    time.sleep(0.005)
    return 100 + len(item)


@app.get("/prices/{item}")
def price(item: str) -> dict[str, int]:
    kept = cache.get(f"price:{item}")
    if kept is None:
        kept = worked_out(item)
        cache.set(f"price:{item}", kept, ex=60)
    return {"price": int(kept)}


@app.get("/health")
def health() -> dict[str, bool]:
    return {"ok": True}
