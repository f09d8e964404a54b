"""Users that go through steps: a sequence, a set of tasks inside it, and a way out of it."""

from __future__ import annotations

from locust import HttpUser, SequentialTaskSet, TaskSet, between, task


class Purchase(SequentialTaskSet):
    @task
    def look(self) -> None:
        self.client.get("/items", name="GET /items")

    @task
    class Compare(TaskSet):
        @task(3)
        def one(self) -> None:
            self.client.get("/items/1", name="GET /items/{id}")

        @task(1)
        def leave(self) -> None:
            # Makes no request: an empty arrival, which is told and is no failure.
            self.interrupt(reschedule=False)

    @task
    def buy(self) -> None:
        with self.client.post("/orders", json={"item": 1}, name="POST /orders", catch_response=True) as reply:
            if reply.status_code >= 400:
                reply.failure(f"not bought: {reply.status_code}")

    @task
    def again(self) -> None:
        self.interrupt()


class Customer(HttpUser):
    wait_time = between(0.5, 1)
    tasks = (Purchase,)
