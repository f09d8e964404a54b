"""Users of every kind that Locust knows; each task starts with a request that names its class, where it makes one."""

import time

from locust import (
    FastHttpUser,
    HttpUser,
    MarkovTaskSet,
    SequentialTaskSet,
    TaskSet,
    User,
    between,
    constant,
    events,
    task,
    transition,
)
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately


@events.init_command_line_parser.add_listener
def _(parser):
    parser.add_argument("--greeting", default="hello")


@events.init.add_listener
def _(environment, **_kwargs):
    @environment.events.test_start.add_listener
    def started(environment, **_kwargs):
        environment.started = environment.parsed_options.greeting


class Http(HttpUser):
    wait_time = between(1, 2)

    @task
    def go(self):
        self.client.get("/Http")


class Fast(FastHttpUser):
    host = "http://127.0.0.1:1"
    wait_time = constant(5)

    @task
    def go(self):
        assert self.environment.started == "hello"
        assert self.environment.runner is not None
        self.client.get("/Fast")


class Sequence(FastHttpUser):
    wait_time = constant(1)

    @task
    class Steps(SequentialTaskSet):
        @task
        def first(self):
            self.client.get("/Sequence", name="first")

        @task
        def second(self):
            self.client.get("/Sequence", name="second")

        @task
        def third(self):
            self.client.get("/Sequence", name="third")


class Nested(HttpUser):
    wait_time = constant(1)

    @task
    def leaf(self):
        self.client.get("/Nested")

    @task
    class Inner(TaskSet):
        def on_start(self):
            self.client.get("/inner-setup")

        @task
        def once(self):
            self.client.get("/Nested")
            self.interrupt()

        @task
        class Innermost(TaskSet):
            @task
            def raises_interrupt(self):
                self.client.get("/Nested")
                raise InterruptTaskSet(reschedule=False)

        @task
        def leave(self):
            self.client.get("/Nested")
            self.interrupt(reschedule=False)


class Several(FastHttpUser):
    @task
    def go(self):
        self.client.get("/Several")
        self.client.get("/more")
        self.client.get("/more")


class Raises(FastHttpUser):
    @task
    def go(self):
        raise ValueError("no request was made")


class RaisesLater(FastHttpUser):
    @task
    def go(self):
        self.client.get("/RaisesLater")
        raise ValueError("a request was made")


class Reschedules(FastHttpUser):
    @task
    def politely(self):
        self.client.get("/Reschedules")
        raise RescheduleTask

    @task
    def at_once(self):
        self.client.get("/Reschedules")
        raise RescheduleTaskImmediately


class NoWait(HttpUser):
    @task
    def go(self):
        self.client.get("/NoWait")


class Custom(User):
    @task
    def go(self):
        self.environment.events.request.fire(
            request_type="X", name="/Custom", response_time=3.0, response_length=1, exception=None, context={}
        )


class Measured(User):
    wait_time = constant(0.01)

    @task
    def go(self):
        with self.environment.events.request.measure("X", "/Measured"):
            time.sleep(0.002)
        self.wait()


class Stops(FastHttpUser):
    """Every user serves three tasks and leaves."""

    served = 0

    def on_start(self):
        self.client.get("/login")

    @task
    def go(self):
        self.client.get("/Stops")
        self.served += 1
        if self.served == 3:
            self.stop()


class Markov(FastHttpUser):
    @task
    class Chain(MarkovTaskSet):
        @transition("second")
        def first(self):
            self.client.get("/Markov")

        @transition("first")
        def second(self):
            self.client.get("/Markov")
