"""One task per way to fail, for each HTTP client."""

import os

from locust import FastHttpUser, HttpUser, User, task

from harness.load.lean import LeanHttpUser

CLOSED_PORT = os.environ["CLOSED_PORT"]


class _Ways(User):
    abstract = True

    @task
    def fine(self):
        self.client.get("/fine", name=f"{self.kind} fine")

    @task
    def status(self):
        self.client.get("/status", name=f"{self.kind} status")

    @task
    def reset(self):
        self.client.post("/reset", data="x", name=f"{self.kind} reset")

    @task
    def close(self):
        self.client.post("/close", data="x", name=f"{self.kind} close")

    @task
    def garbage(self):
        self.client.get("/garbage", name=f"{self.kind} garbage")

    @task
    def cut(self):
        self.client.get("/cut", name=f"{self.kind} cut")

    @task
    def away(self):
        self.client.get("/away", name=f"{self.kind} away", allow_redirects=True)

    @task
    def around(self):
        self.client.get("/around", name=f"{self.kind} around", allow_redirects=True)

    @task
    def drip(self):
        self.client.get("/drip", name=f"{self.kind} drip")

    @task
    def hang(self):
        self.client.post("/hang", data="x", name=f"{self.kind} hang")

    @task
    def refused(self):
        self.client.get(f"http://127.0.0.1:{CLOSED_PORT}/", name=f"{self.kind} refused")

    @task
    def check(self):
        with self.client.get("/fine", name=f"{self.kind} check", catch_response=True) as reply:
            reply.failure("not what was asked for")

    @task
    def check_of_status(self):
        """The file complains about what was an error status anyway."""
        with self.client.get("/status", name=f"{self.kind} check of status", catch_response=True) as reply:
            reply.failure("no data")

    @task
    def check_of_reset(self):
        with self.client.get("/reset", name=f"{self.kind} check of reset", catch_response=True) as reply:
            reply.failure("no data")

    @task
    def check_of_hang(self):
        with self.client.get("/hang", name=f"{self.kind} check of hang", catch_response=True) as reply:
            reply.failure("no data")

    @task
    def forgiven(self):
        with self.client.get("/status", name=f"{self.kind} forgiven", catch_response=True) as reply:
            reply.success()

    @task
    def crash_in_check(self):
        with self.client.get("/fine", name=f"{self.kind} crash in check", catch_response=True):
            raise KeyError("the check itself is broken")

    @task
    def unused_check(self):
        """Locust reports nothing for a catch_response without a with-block."""
        self.client.get("/fine", name=f"{self.kind} unused check", catch_response=True)

    @task
    def bad_header(self):
        """A request that the client itself refuses to make."""
        self.client.get("/fine", name=f"{self.kind} bad header", headers={"X-Bad": "two\nlines"})


class Http(_Ways, HttpUser):
    kind = "http"


class Fast(_Ways, FastHttpUser):
    kind = "fast"


class Lean(_Ways, LeanHttpUser):
    kind = "lean"
