"""What Locust files of others do: each of these runs under plain Locust."""

import os
import time

from locust import FastHttpUser, HttpUser, TaskSet, User, constant, events, task
from locust.exception import RescheduleTask

ACCOUNTS = ["ann", "bob"]


@events.test_start.add_listener
def _(environment, **_kwargs):
    print("users at the start:", environment.runner.target_user_count)


class _Fires(User):
    abstract = True
    wait_time = constant(0.05)

    def fire(self, name, exception=None, response_time=5, response_length=0):
        self.environment.events.request.fire(
            request_type="X",
            name=name,
            response_time=response_time,
            response_length=response_length,
            exception=exception,
        )


class Texts(_Fires):
    """What failed is said without an exception object."""

    @task
    def call(self):
        self.fire("connect")
        self.fire("empty text", "")
        self.fire("zero", 0)
        self.fire("query", "HTTP 500")
        self.fire("code", 503)
        with self.environment.events.request.measure("X", "measured") as meta:
            meta["exception"] = "no rows"


class Unshowable:
    def __str__(self):
        raise RuntimeError("this cannot be shown")


class Odd(_Fires):
    """Numbers that are none, and texts that cannot be written."""

    @task
    def call(self):
        self.fire("text", response_length="17", response_time="5")
        for value in (float("inf"), float("nan"), None, "soon", 10**400, [1]):
            self.fire("odd time", response_time=value)
            self.fire("odd length", response_length=value)
        self.fire("other unit", response_time=5e12)
        self.fire("microseconds", response_time=5_000_000)
        self.fire("name \udcff", "why \udcff")
        self.fire(("a", "pair"))
        self.fire("unshowable", Unshowable())


class LeavesEarly(HttpUser):
    @task
    class Tasks(TaskSet):
        @task
        def interrupts(self):
            with self.client.get("/status", name="interrupted", catch_response=True) as reply:
                if reply.status_code != 200:
                    self.interrupt()

        @task
        def reschedules(self):
            with self.client.get("/status", name="rescheduled", catch_response=True):
                raise RescheduleTask

        @task
        def breaks(self):
            with self.client.get("/status", name="broken", catch_response=True) as reply:
                reply.json()["what is not there"]

        @task
        def interrupts_a_good_one(self):
            with self.client.get("/fine", name="good", catch_response=True):
                self.interrupt()


class Nested(HttpUser):
    """Half of its tasks ask for nothing."""

    @task
    class Forum(TaskSet):
        @task(2)
        def read(self):
            self.client.get("/read")

        @task
        def leave(self):
            self.interrupt()

        @task
        def nothing_to_do(self):
            return


class Thinks(FastHttpUser):
    @task
    def browse(self):
        self.client.get("/list")
        time.sleep(1.5)
        self.client.get("/item")


class Accounts(FastHttpUser):
    """More users than there are accounts."""

    def on_start(self):
        self.me = ACCOUNTS.pop()
        self.client.get(f"/login/{self.me}", name="login")

    @task
    def shop(self):
        self.client.get(f"/shop/{self.me}", name="shop")
        time.sleep(0.3)


class Login(FastHttpUser):
    """Users that the target lets in, or not."""

    def on_start(self):
        with self.client.get("/login", catch_response=True) as reply:
            if reply.status_code != 200:
                raise RuntimeError("not let in")

    @task
    def shop(self):
        self.client.get("/shop")


class Turns(FastHttpUser):
    """Each user has a path of its own."""

    number = 0

    def on_start(self):
        Turns.number += 1
        self.path = f"/turn/{os.getpid()}-{Turns.number}"

    @task
    def go(self):
        self.client.get(self.path, name="turn")


class Quits(FastHttpUser):
    @task
    def go(self):
        self.client.get("/last")
        self.environment.runner.quit()


class Exits(FastHttpUser):
    @task
    def go(self):
        raise SystemExit("the data set is used up")


class BreaksStatistics(FastHttpUser):
    @task
    def go(self):
        self.client.get("/go")
        self.environment.stats.total = None
