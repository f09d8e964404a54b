"""Small users with one path each, for tests that need to know who asked for what."""

import os

from locust import FastHttpUser, constant, task


class Left(FastHttpUser):
    @task
    def left(self):
        self.client.post("/left", data="x")


class Right(FastHttpUser):
    @task
    def right(self):
        self.client.get("/right")


class Cycle(FastHttpUser):
    """Closed model: 0.1 s between requests."""

    wait_time = constant(0.1)

    @task
    def go(self):
        self.client.get("/cycle")


class Lonely(Cycle):
    fixed_count = 2

    @task
    def go(self):
        self.client.get("/lonely")


class SlowStart(FastHttpUser):
    def on_start(self):
        self.client.get("/login")

    @task
    def go(self):
        self.client.get("/after-login")


class BadStart(FastHttpUser):
    def on_start(self):
        raise RuntimeError("no account left")

    @task
    def go(self):
        self.client.get("/never")


class Sleeps(FastHttpUser):
    @task
    def go(self):
        import time

        time.sleep(60)


class Two(FastHttpUser):
    """The first request is quick, the second is not."""

    @task
    def go(self):
        self.client.get("/quick")
        self.client.get("/slow")


class Prints(FastHttpUser):
    @task
    def go(self):
        print("a line on standard output", os.getpid())
        self.client.get("/prints")
