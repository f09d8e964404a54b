"""Somebody changes the dependencies while faults are on: it is noticed, told with the time, and their work is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.control import NOTICED_S, call, execute, left_about, not_proven, reason_about, wait_all_proven
from tests.e2e.life import FAULTS, brief_run
from tests.e2e.observe import wait_until
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

NAMES = FAULTS[1::2]


def test_what_somebody_changes_while_faults_are_on_is_noticed_and_left_alone(
    stack: StandingStack, tmp_path: Path
) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, *FAULTS, "--fault-for", "10s")
    toxiproxy, db = stack.dependency("redis")["proxy"]["url"], stack.dependency("db")
    try:
        wait_all_proven(run, *NAMES)
        assert not_proven(run) == {}
        call("POST", f"{toxiproxy}/proxies/redis", {"enabled": True})
        (toxic,) = call("GET", f"{toxiproxy}/proxies/kafka")["toxics"]
        call("DELETE", f"{toxiproxy}/proxies/kafka/toxics/{toxic['name']}")
        execute(db["credentials"]["admin"], f"ALTER ROLE {db['credentials']['role']} CONNECTION LIMIT 7")
        assert wait_until(lambda: set(not_proven(run)) == set(NAMES), NOTICED_S), not_proven(run)
        assert run.end() == 5, run.text()
        assert run.result()["verdict"] == "inconclusive"

        reasons = {fault: reason_about(run, fault) for fault in NAMES}
        for reason in reasons.values():
            assert "did not last" in reason and "it was on" in reason and "after the start, at" in reason
        assert "observed enabled" in reasons["redis-down"] and "observed missing" in reasons["kafka-latency"]
        assert "observed limit 7" in reasons["db-connection-limit"]

        # Two of the three are back by somebody's hand. The limit is neither ours nor the original: it is left.
        # The lock of the shared Toxiproxy stays until it is mended.
        after = stack.snapshot()
        assert after["proxies"].pop("harness-lock")["enabled"] is False
        assert after == {"proxies": before["proxies"], "roles": {**before["roles"], db["credentials"]["role"]: 7}}
        told = left_about(run, "db-connection-limit")
        assert "limit 7" in told and "it was -1" in told and "had set 2" in told
        statement = told[told.index("ALTER ROLE") :]
        assert statement in " ".join(run.text().split())

        # What it printed is enough to mend it by hand, and the next `heal` sees that it is mended.
        execute(db["credentials"]["admin"], statement)
        done = stack.harness("heal", "--all")
        assert done.returncode == 0, done.stdout + done.stderr
        assert stack.snapshot() == before
    finally:
        run.kill_group()
        execute(db["credentials"]["admin"], f"ALTER ROLE {db['credentials']['role']} CONNECTION LIMIT -1")
        stack.harness("heal", "--all")
