"""Which load an experiment of a suite runs on: with a load that is only noted down (a real one
takes its ramp each time; tests/e2e/test_suite.py has those)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.suite import loads as module
from harness.suite.loads import Loads


class Noted:
    """Both the running load and the series on it."""

    def __init__(self, plan: Any, windows: Path, log: list[str]) -> None:
        self.plan, self.windows, self.log, self.t0 = plan, windows, log, 0.0
        self.process = SimpleNamespace(running=True)

    def begin(self, t0: float) -> None:
        self.t0 = t0
        self.log.append(f"begin {self.plan}")

    def close(self) -> None:
        self.log.append(f"close {self.plan}")


def plan(name: str) -> Any:
    load, phases = SimpleNamespace(ramp_s=0.0, name=name), SimpleNamespace(warmup_s=0.0, hold_s=0.0)
    return SimpleNamespace(load=load, phases=phases, alerts=None)


def test_the_shared_load_is_stopped_around_one_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(
        module.RunningLoad, "start", lambda load, session, windows, *_: Noted(load.name, windows, log), raising=True
    )
    session = SimpleNamespace(
        run_dir=tmp_path,
        keeper=SimpleNamespace(renew=lambda: None),
        start_sampler=lambda t0, alerts: log.append("sampler"),
        sample_into=lambda t0, folder: log.append(f"sample into {folder.name}"),
    )

    def series(load: Any, before: Any) -> Any:
        log.append(f"after {before.plan if before is not None else None}")
        return load

    loads = Loads(session, plan("all"), lambda plan: plan, series, SimpleNamespace(count=0), lambda text: None)  # type: ignore[arg-type]
    first = loads.series_for(None)
    assert loads.series_for(None) is first, "one load for those that share it"
    own = loads.series_for(plan("spike"))
    assert own is not None and own.windows.parent.name == "load-02"  # type: ignore[attr-defined]
    assert loads.series_for(None) is not first
    loads.close()
    loads.close()
    assert [line for line in log if not line.startswith("sample")] == [
        *("after None", "begin all", "close all"),
        *("after all", "begin spike", "close spike"),
        *("after spike", "begin all", "close all"),
    ]


def test_a_load_that_ended_while_it_ramped_up_carries_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Noted("all", tmp_path, [])
    dead.process.running = False
    monkeypatch.setattr(module.RunningLoad, "start", lambda *_: dead, raising=True)
    session = SimpleNamespace(
        run_dir=tmp_path, keeper=SimpleNamespace(renew=lambda: None), start_sampler=lambda t0, alerts: None
    )
    slow = plan("all")
    slow.load.ramp_s = 60.0
    loads = Loads(session, slow, lambda plan: plan, lambda load, *_: load, SimpleNamespace(count=0), lambda text: None)  # type: ignore
    assert loads.series_for(None) is None
