"""A plug-in beside the users: it logs what is slow, and ends the test where a preparation fails.

`runner.quit()` ends the run: faults are undone, and the verdict is INCONCLUSIVE and names the line.
"""

from __future__ import annotations

import logging
from typing import Any

import requests
from locust import HttpUser, events, task

SLOW_MS = 1000


@events.test_start.add_listener
def prepare(environment: Any, **_: Any) -> None:
    if requests.post(f"{environment.host}/fixtures", timeout=5).status_code >= 500:
        logging.error("no test data could be made")
        environment.runner.quit()


@events.request.add_listener
def tell_slow(name: str, response_time: float, **_: Any) -> None:
    if response_time > SLOW_MS:
        logging.warning("%s took %.0f ms", name, response_time)


class Visitor(HttpUser):
    @task
    def visit(self) -> None:
        self.client.get("/", name="GET /")
