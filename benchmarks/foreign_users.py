"""The load of foreign_services.py: the requests of the requests.json beside this file, each as often as the others."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from locust import HttpUser, task

TOLD: dict[str, Any] = json.loads(Path(__file__).with_name("requests.json").read_text("utf-8"))
# Apart from the numbers of the prober, which begin at 0.
NUMBERS = itertools.count(1_000_000)
TURNS = itertools.cycle(TOLD["requests"])


class Caller(HttpUser):  # type: ignore[misc]
    @task  # type: ignore[untyped-decorator]
    def call(self) -> None:
        request, number = next(TURNS), next(NUMBERS)
        body = request["body"]
        self.client.request(
            request["method"],
            request["path"].replace("{n}", str(number)).replace("{m}", str(number % request["spread"])),
            name=request["name"],
            headers=request["headers"],
            data=None if body is None else body.replace("{n}", str(number)),
        )
