"""What both share: a name that begins with an underscore is no Locust file of its own."""

from __future__ import annotations

from locust import FastHttpUser


class ShopUser(FastHttpUser):
    abstract = True

    def order(self) -> dict[str, int]:
        return {"item": 1}
