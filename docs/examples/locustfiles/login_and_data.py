"""Accounts and search words out of a file, a login for every user, and a token on each request.

A login that fails, or accounts that run out, is reported apart: it is no failure of the requests that are judged.
"""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

from locust import HttpUser, between, task

with Path(__file__).with_name("words.csv").open(newline="") as file:
    ROWS = list(csv.DictReader(file))
WORDS = itertools.cycle(ROWS)


class Member(HttpUser):
    wait_time = between(1, 3)

    def on_start(self) -> None:
        reply = self.client.post("/login", json={"user": next(WORDS)["user"]}, name="POST /login")
        self.client.headers["Authorization"] = f"Bearer {reply.headers.get('X-Token', 'none')}"

    @task
    def search(self) -> None:
        self.client.get("/search", params={"q": next(WORDS)["word"]}, name="GET /search")
