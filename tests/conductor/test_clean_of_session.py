"""Each experiment of a session is judged by its own baseline and by the clean ones before it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from harness.analysis.record.clean import CLEAN
from harness.analysis.run_directory import Run, analyze, load_run, read_result
from harness.analysis.suite.cells import cells
from harness.conductor.recording.history import History
from harness.conductor.sharing import finisher
from harness.conductor.sharing.carried import Carried
from harness.conductor.sharing.finisher import Finisher
from harness.model.jsonl import encode_line
from harness.model.records.result import Result
from harness.suite.resume import Earlier, clean_before
from tests.analysis.histories import INJECTED, ZERO, Scene, Service, failing, healthy
from tests.analysis.suite.suites import attempt, experiment, suite

APART = 1000
"""Steps from the beginning of one experiment to that of the next."""


def test_the_finisher_hands_clean_baselines_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finisher, "write_reports", lambda folder, say, run: None)
    windows = tmp_path / "windows.jsonl"
    services: list[Service] = [
        failing(INJECTED, ZERO, 0.5),
        failing(0.0, 99.0, 0.05),  # its baseline is broken
        healthy,
        healthy,
    ]
    carried = []
    scene = Scene(rate=50.0, workers=1, service=lambda at, draw: services[int(at * 10) // APART](at % 100, draw))
    session = scene.plan()
    windows.write_bytes(b"".join(map(encode_line, scene.rows(session, APART / 10 * len(services)))))
    for number in range(len(services)):
        first = number * APART
        limits = (150.0, 200.0) if number == 3 else session.load.limits_ms  # others than were counted in the first ones
        plan = replace(session, load=replace(session.load, first_step=first, limits_ms=limits))
        events, end_s = scene.events(plan)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "plan.json").write_bytes(encode_line(plan))
        (folder / "history.jsonl").write_bytes(b"".join(map(encode_line, events)))
        history = History(folder / "history.jsonl", plan.experiment, print)
        history.events = events
        end = first + round(end_s * 10)
        carried.append(Carried(plan=plan, folder=folder, history=history, first=first, end=end, since=0))
    load = SimpleNamespace(windows=windows, instant=lambda step: 0.0, process=SimpleNamespace(running=False))
    found: list[Result] = []
    told: list[str] = []

    def judged(carried: Carried, run: Run, result: Result) -> None:
        found.append(result)
        # What is made of the record that was judged is what a fresh one gives.
        assert cells(run, result) == cells(load_run(carried.folder), result)

    one = Finisher(cast(Any, SimpleNamespace(state_dir=tmp_path)), cast(Any, load), judged, told.append, ())
    for each in carried:
        one.add(each)
    one.close()

    assert told == [] and [r.earlier_baseline_s for r in found] == [0, 20, 20, 0]
    assert [(c.folder / CLEAN).exists() for c in carried] == [False, True, True, False]
    # From the first, in its own time and not in that of the load.
    one_store, third = (load_run(carried[number].folder).store for number in (0, 2))
    (before,) = third.earlier
    assert (
        before.baseline == (0, 200) and before.totals(0, 200).all_names().ok == one_store.totals(20, 220).all_names().ok
    )
    # A directory by itself gives the same result again.
    assert all(analyze(c.folder) == read_result(c.folder) == r for c, r in zip(carried, found, strict=True))
    assert len(one.clean) == 3

    # A suite that goes on there knows them, too; what is no experiment of it, or was pruned, is passed by.
    attempts = [attempt("held", directory=c.folder.name, started=f"{i}") for i, c in enumerate(carried)]
    strange = [attempt("held", directory=name) for name in ("../x", "/etc", "none", "linked")]
    (tmp_path / "linked").symlink_to(carried[0].folder)
    result = suite(*(experiment(f"e{i}", each) for i, each in enumerate([*attempts, *strange])))
    assert clean_before(Earlier(folder=tmp_path, result=result)) == one.clean
    (carried[0].folder / "windows.jsonl").unlink()
    assert clean_before(Earlier(folder=tmp_path, result=result)) == one.clean[1:]
