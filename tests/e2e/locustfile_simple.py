"""One user, one request: for targets that are not the sample API."""

from locust import FastHttpUser, constant, task


class Caller(FastHttpUser):
    wait_time = constant(1)

    @task
    def call(self) -> None:
        self.client.get("/call")
