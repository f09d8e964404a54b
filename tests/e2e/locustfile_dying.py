"""The sample API's users, and an exception that ends the load process as soon as a trigger file exists."""

import os
from pathlib import Path

import gevent
from locust import FastHttpUser, constant, events, task


class Caller(FastHttpUser):
    wait_time = constant(1)

    @task
    def health(self) -> None:
        self.client.get("/health")


def _watch() -> None:
    while not Path(os.environ["TEST_TRIGGER"]).exists():
        gevent.sleep(0.05)
    raise SystemExit("an exception that nothing in the load process catches")


@events.test_start.add_listener
def _start(environment: object, **_: object) -> None:
    gevent.spawn(_watch)
