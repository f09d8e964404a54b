"""`--with-alerts`, before anything is touched: what it is expected of, and what it cannot go with. One line each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.conductor.prepare import prepare
from harness.model.errors import UsageError
from harness.model.records.faults import Address
from harness.model.records.stack import StackUp, TargetInfo
from harness.plan.experiment import Experiment
from harness.plan.planner import bind
from harness.stack.embedded import EmbeddedStack, alerting
from tests.cli.test_bad_input import harness
from tests.support.servers.alerting import programs

ALERTS = '[alerts]\nprometheus = "http://127.0.0.1:9"\nexpected = ["Down"]\n'


def test_what_is_missing_is_one_line_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--with-alerts: Prometheus and Alertmanager are not on PATH") as error:
        EmbeddedStack(with_alerts=True).check()
    assert "apt-get install prometheus prometheus-alertmanager" in (error.value.hint or "")
    for name, missing in (("prometheus", "Alertmanager is not"), ("alertmanager", "")):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        if missing:
            with pytest.raises(UsageError, match=f"--with-alerts: {missing} on PATH"):
                alerting.programs()
    assert alerting.programs().alertmanager == str(tmp_path / "alertmanager")
    EmbeddedStack().check()


@pytest.mark.parametrize(
    ("toml", "args", "says"),
    [
        (ALERTS, (), "--with-alerts: [alerts] in harness.toml names where alerts are seen already"),
        (
            "",
            ("--host", "http://127.0.0.1:9"),
            "--with-alerts belongs to the embedded stack, and the target is on the ext",
        ),
        ("", ("--stack", "compose"), "and the target is on the compose one"),
    ],
)
def test_what_it_cannot_go_with(tmp_path: Path, toml: str, args: tuple[str, ...], says: str) -> None:
    (tmp_path / "harness.toml").write_text(toml)
    done = harness("plan", "--with-alerts", *args, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr


def test_the_plan_expects_its_alert_and_a_run_has_the_addresses_once_the_stack_is_up() -> None:
    asked = Experiment(alerts=alerting.wanted(), targets=("detect{RedisDown} < 30s",))
    planned = prepare(asked)
    assert isinstance(planned.stack, EmbeddedStack) and planned.stack.with_alerts
    assert planned.stack.logging_to(Path("/x")).with_alerts
    plan = planned.plan
    assert plan.alerts is not None and plan.alerts.expected == ("SampleApiDegraded", "RedisDown")
    seen = alerting.wanted()
    up = StackUp(name="embedded", target=TargetInfo(url="http://127.0.0.1:1"), alerts=None)
    assert bind(plan, up, {}).alerts == plan.alerts
    bound = bind(plan, stack_with(up), {}).alerts
    assert bound is not None and bound.prometheus == "http://127.0.0.1:2" and bound.expected == plan.alerts.expected
    assert seen.sources == () and bound.sources == ("prometheus", "alertmanager")
    assert not prepare(Experiment()).stack.with_alerts  # type: ignore[attr-defined]


def stack_with(up: StackUp) -> StackUp:
    from msgspec.structs import replace

    seen = replace(alerting.wanted(), prometheus="http://127.0.0.1:2", alertmanager="http://127.0.0.1:3")
    return replace(up, alerts=seen)


def test_its_rules_and_files_are_right_by_the_tools_of_their_programs(tmp_path: Path) -> None:
    found = alerting.Programs(prometheus=programs()[0], alertmanager=programs()[1])
    at = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
    one, other = alerting.specs(found, tmp_path, Address("127.0.0.1", 3), at, tmp_path)
    assert "--web.listen-address=127.0.0.1:1" in one.argv and "--web.listen-address=127.0.0.1:2" in other.argv
    assert all(version[0].isdigit() for version in found.versions.values())
    if (promtool := shutil.which("promtool")) is not None:
        from harness.stack.starting.child import answer_of

        checked = answer_of(promtool, "check", "config", tmp_path / "prometheus.yml")
        assert checked is not None and checked.returncode == 0, checked
        assert "5 rules found" in checked.stdout
