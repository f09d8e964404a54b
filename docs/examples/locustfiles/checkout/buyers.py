"""One of several files of a folder: `--locustfile checkout` takes all of them, `--user-class Buyer` these users."""

from __future__ import annotations

from _common import ShopUser
from locust import task


class Buyer(ShopUser):
    weight = 1

    @task
    def buy(self) -> None:
        self.client.post("/orders", json=self.order(), name="POST /orders")
