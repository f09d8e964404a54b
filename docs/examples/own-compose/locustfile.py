"""Visitors of the example's application."""

from locust import HttpUser, constant, task


class Visitor(HttpUser):
    wait_time = constant(1)

    @task
    def visit(self) -> None:
        self.client.get("/", name="visit")
