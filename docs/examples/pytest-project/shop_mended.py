"""The same shop, mended: Redis has a quarter of a second to answer, and without it prices are worked out."""

import os
import time

import redis
from fastapi import FastAPI
from redis.backoff import NoBackoff
from redis.retry import Retry

app = FastAPI()
cache = redis.Redis.from_url(
    os.environ["REDIS_URL"], socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0)
)


def worked_out(item: str) -> int:
    time.sleep(0.005)
    return 100 + len(item)


@app.get("/prices/{item}")
def price(item: str) -> dict[str, int]:
    try:
        kept = cache.get(f"price:{item}")
        if kept is not None:
            return {"price": int(kept)}
        found = worked_out(item)
        cache.set(f"price:{item}", found, ex=60)
    except redis.RedisError:
        found = worked_out(item)
    return {"price": found}


@app.get("/health")
def health() -> dict[str, bool]:
    return {"ok": True}
