"""Requests to a service that lets its connections go without an answer."""

from locust import task

from harness.load.lean import LeanHttpUser


class Caller(LeanHttpUser):
    @task
    def ask(self):
        self.client.get("/fickle")
