"""The load goes where the checked addresses are, whatever the target's name means by then."""

from __future__ import annotations

from pathlib import Path

from load_run import CLOSED, Run, make_plan, named
from load_target import Target

USERS = """
from locust import FastHttpUser, HttpUser, constant, task

from harness.load.lean import LeanHttpUser

class Fast(FastHttpUser):
    wait_time = constant(0.05)
    @task
    def get(self):
        self.client.get("/ok/fast")

class Lean(LeanHttpUser):
    wait_time = constant(0.05)
    @task
    def get(self):
        self.client.get("/ok/lean")

class Plain(HttpUser):
    wait_time = constant(0.05)
    @task
    def get(self):
        self.client.get("/ok/plain")
"""


def test_a_name_is_held_to_the_addresses_that_were_checked(tmp_path: Path) -> None:
    """`.invalid` never resolves: each request that arrives was sent to the address in the plan."""
    target = Target().start()
    file = tmp_path / "users.py"
    file.write_text(USERS)
    host = f"http://Shop.Invalid:{target.port}"
    plan = make_plan(file, host, classes=named("Fast", "Lean", "Plain"), users=6, addresses=("127.0.0.1",), **CLOSED)
    try:
        with Run(plan, tmp_path) as run:
            run.go(2.0)
            assert run.errors() == {}, run.errors()
        assert all(target.counts[f"/ok/{client}"] > 3 for client in ("fast", "lean", "plain"))
    finally:
        target.stop()


def test_without_the_pin_the_name_is_looked_up_and_fails(tmp_path: Path) -> None:
    target = Target().start()
    file = tmp_path / "users.py"
    file.write_text(USERS)
    plan = make_plan(file, f"http://shop.invalid:{target.port}", classes=named("Fast", "Lean"), users=2, **CLOSED)
    try:
        with Run(plan, tmp_path) as run:
            run.go(1.0)
            assert {("refused", "/ok/fast"), ("refused", "/ok/lean")} == set(run.errors())
        assert not target.counts
    finally:
        target.stop()
