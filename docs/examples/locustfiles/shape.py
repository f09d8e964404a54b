"""With a load shape, a fixed number of administrators, and hosts of their own: what the plan says of these."""

from __future__ import annotations

from locust import HttpUser, LoadTestShape, constant, task


class Steps(LoadTestShape):
    """Ignored by the harness, which says so: scenario and options decide how much is sent when."""

    def tick(self) -> tuple[int, float] | None:
        return (10, 1.0) if self.get_run_time() < 60 else None


class Reader(HttpUser):
    wait_time = constant(1)

    @task
    def read(self) -> None:
        self.client.get("/pages/1", name="GET /pages/{id}")


class Administrator(HttpUser):
    fixed_count = 1
    host = "http://127.0.0.1:1"
    wait_time = constant(5)

    @task
    def look(self) -> None:
        self.client.get("/admin", name="GET /admin")
