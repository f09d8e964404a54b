"""A scenario of your own: copy this file, change it, and run it.

    locust -f my_scenario.py --host http://127.0.0.1:8000
    harness run --fault redis-down --scenario baseline --locustfile my_scenario.py

It is an ordinary Locust file (https://docs.locust.io): nothing in it knows of the harness.

What the harness does with it:

* Every concrete user class takes part. `weight` is the class's share: of the arrivals in the open model, of the
  users in the closed model.
* Open model (scenarios with a rate): one arrival of the schedule starts one task. Which one is Locust's choice, by
  the weights of the tasks. `wait_time` is not used, because the schedule decides when a task starts.
* Closed model: users and waits are Locust's own.
* The first request of a task is measured from the moment it was meant to start, later ones from when they are sent.
  One request per task therefore gives the clearest figures; a flow of several steps is best written as below.
* Requests of `on_start` are reported apart and never judged.
* `name=` groups requests in every table; without it each URL has a line of its own.
"""

from __future__ import annotations

import random

from locust import FastHttpUser, SequentialTaskSet, between, task

SEVERITIES = ("low", "medium", "high", "critical")


def transaction() -> dict[str, object]:
    return {
        "hash": f"0x{random.getrandbits(256):064x}",
        "from_address": f"0x{random.getrandbits(160):040x}",
        "to_address": f"0x{random.getrandbits(160):040x}",
        "value": round(random.expovariate(1.0), 6),
        "gas": 21_000,
        "gas_price": random.randrange(5, 80) * 10**9,
        "block_number": 21_500_000,
        "timestamp": "2025-01-01T00:00:00Z",
    }


class Investigation(SequentialTaskSet):
    """Steps in a fixed order, once per round: look at the alerts, check one transaction, look again.

    Each step is a task, so in the open model each step waits for an arrival of its own.
    """

    def on_start(self) -> None:
        # State of this round; a task set is made anew every time it is entered.
        self.suspect = transaction()

    @task
    def look_at_alerts(self) -> None:
        severity = random.choice(SEVERITIES)
        self.client.get(f"/api/v1/anomalies?limit=20&severity={severity}", name="/api/v1/anomalies")

    @task
    def check_the_suspect(self) -> None:
        # catch_response lets the scenario decide what counts as a failure.
        with self.client.post(
            "/api/v1/predict", name="/api/v1/predict", json={"transaction": self.suspect}, catch_response=True
        ) as reply:
            if reply.status_code == 200 and "is_anomaly" not in reply.json():
                reply.failure("the answer has no is_anomaly")

    @task
    def look_again(self) -> None:
        self.client.get("/api/v1/anomalies?limit=10&severity=critical", name="/api/v1/anomalies")
        # Back to the user's other tasks; without this the round starts over for ever.
        self.interrupt()


class Analyst(FastHttpUser):
    """Three times out of four an investigation, else a look at the health of the service."""

    weight = 3
    wait_time = between(0.5, 2)

    @task(3)
    class Round(Investigation):
        """A task set as a task: its steps run until one of them calls interrupt()."""

    @task(1)
    def is_it_up(self) -> None:
        self.client.get("/health", name="/health")


class Monitor(FastHttpUser):
    """A monitoring system: one small request again and again."""

    weight = 1
    wait_time = between(1, 1)

    @task
    def health(self) -> None:
        self.client.get("/health", name="/health")
