"""The four scenarios of the load-testing suite this grew out of."""

from __future__ import annotations

from harness.model.records.load import Scenario

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="baseline",
            summary="steady everyday load",
            users=200,
            spawn_rate=50,
            run_time_s=180,
            rate=1_000,
        ),
        Scenario(
            name="target",
            summary="the load the service must carry",
            users=5_000,
            spawn_rate=500,
            run_time_s=600,
            rate=10_000,
        ),
        Scenario(
            name="stress",
            summary="as fast as 10,000 users go",
            users=10_000,
            spawn_rate=1_000,
            run_time_s=600,
            user_classes=("HighThroughputUser",),
        ),
        Scenario(
            name="spike",
            summary="a jump from 10 % of the users to all of them",
            users=5_000,
            spawn_rate=2_500,
            run_time_s=120,
            jump=True,
            baseline_s=30,
            fault_s=30,
        ),
    )
}
