"""The other one."""

from __future__ import annotations

from _common import ShopUser
from locust import task


class Visitor(ShopUser):
    weight = 4

    @task
    def look(self) -> None:
        self.client.get("/items", name="GET /items")
