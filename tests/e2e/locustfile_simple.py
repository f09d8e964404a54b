"""One user, one request: for targets that are not the sample API."""

from locust import constant, task

from harness.load.lean import LeanHttpUser


class Caller(LeanHttpUser):
    wait_time = constant(1)

    @task
    def call(self) -> None:
        self.client.get("/call")
