"""A run directory is read back whole, torn or damaged, and always says which file is wrong."""

from __future__ import annotations

import dataclasses
import random
from contextlib import closing
from functools import cache
from pathlib import Path

import msgspec
import pytest
from histories import INJECTED, ZERO, Reply, Run, Scene, failing
from msgspec.structs import replace

from harness.analysis.record.window_reader import WindowReader
from harness.analysis.run_directory import analyze, load_run, read_result, write_result
from harness.analysis.verdict.timeline import bin_steps, chart_data
from harness.model.clock import step_of
from harness.model.errors import UsageError
from harness.model.jsonl import encode_line, read_lines
from harness.model.records import events as ev
from harness.model.records.samples import Sample
from harness.model.records.windows import DeltaRow, ErrorRow, MarkRow, Row, flattened, pairs
from harness.model.target_grammar import parse_targets

FORMER = Path(__file__).parent / "former" / "schema-1"


@cache
def recorded() -> Run:
    return Scene(service=failing(INJECTED, ZERO + 1, 0.5, "refused"), recovery_s=1.1).build()


def test_what_was_written_is_judged_as_it_was(tmp_path: Path) -> None:
    folder = recorded().write(tmp_path / "run")
    result = analyze(folder)
    assert result == recorded().judge()
    assert read_result(write_result(folder, result).parent) == result
    assert not list(folder.glob("*.part"))
    plan, history, store, samples = load_run(folder)
    assert (
        plan == recorded().plan and len(history) == len(recorded().events) and len(samples) == len(recorded().samples)
    )
    assert store.total_requests == recorded().store().total_requests


def test_extra_targets(tmp_path: Path) -> None:
    result = analyze(recorded().write(tmp_path), parse_targets("after: p95 < 1ms"))
    assert any(t.target == "after: p95 < 1ms" and t.outcome == "broken" for t in result.targets)


@pytest.mark.parametrize("name", ["windows.jsonl", "history.jsonl", "samples.jsonl"])
def test_a_torn_last_line_is_ignored(tmp_path: Path, name: str) -> None:
    folder = recorded().write(tmp_path)
    before = analyze(folder)
    with (folder / name).open("ab") as file:
        file.write(b'{"row":"mark","worker":"w0","a')
    assert analyze(folder) == before


@pytest.mark.parametrize("name", ["windows.jsonl", "history.jsonl", "samples.jsonl", "plan.json"])
def test_damage_elsewhere_names_the_file(tmp_path: Path, name: str) -> None:
    folder = recorded().write(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:50] + b"\x00garbage\n" + content[50:])
    with pytest.raises(UsageError, match=name):
        analyze(folder)


@pytest.mark.parametrize("name", ["windows.jsonl", "history.jsonl", "samples.jsonl", "plan.json"])
def test_a_file_that_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    folder = recorded().write(tmp_path)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UsageError, match=rf"{name} is a folder, not a file"):
        analyze(folder)


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    folder = recorded().write(tmp_path)
    with (folder / "history.jsonl").open("ab") as file:
        file.write(b'{"event":"note","at":1.0,"wall":"","experiment":"x","text":"\xff"}\n')
    with pytest.raises(UsageError, match=r"history\.jsonl line \d+"):
        analyze(folder)


@pytest.mark.parametrize("name", ["windows.jsonl", "history.jsonl", "plan.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = recorded().write(tmp_path)
    (folder / name).unlink()
    with pytest.raises(UsageError, match=name):
        analyze(folder)


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or run directory"):
        load_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"result\.json is missing"):
        read_result(tmp_path)


def test_a_run_that_failed_before_its_load_has_a_result(tmp_path: Path) -> None:
    folder = Run(recorded().plan, [], []).write(tmp_path)
    (folder / "windows.jsonl").unlink()
    (folder / "samples.jsonl").unlink()
    result = analyze(folder)
    assert (result.verdict, result.exit_code) == ("inconclusive", 4)


def test_every_prefix_of_a_run_can_be_judged(tmp_path: Path) -> None:
    """Whenever the machine stops, the record up to then gives a result and never a PASS."""
    for at in range(0, 60, 4):
        result = recorded().cut(float(at)).judge()
        assert result.verdict == "inconclusive" or result.exit_code == 5, at
        assert result.exit_code in (3, 4, 5)
        assert result.reasons


# -- while the load writes it ------------------------------------------------------------------------------------------


def test_a_torn_row_waits_to_be_completed(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    with closing(WindowReader(path, recorded().plan)) as windows:
        with pytest.raises(FileNotFoundError):
            list(windows.poll())
        line = encode_line(MarkRow(worker="1", at=0.1, done=1))
        path.write_bytes(line + line[:10])
        assert len(list(windows.poll())) == 1
        assert list(windows.poll()) == []
        with path.open("ab") as file:
            file.write(line[10:] + line)
        assert len(list(windows.poll())) == 2


@pytest.mark.parametrize(
    ("line", "says"), [(b'{"row": "delta"}', "worker"), (b'{"row":"delta","worker":"1","step":99999999}', "beyond")]
)
def test_a_damaged_row_is_named_while_it_is_followed(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\n" + line + b"\n")
    with (
        closing(WindowReader(path, recorded().plan)) as windows,
        pytest.raises(ValueError, match=rf"windows\.jsonl line 2: .*{says}"),
    ):
        list(windows.poll())


# -- other records -----------------------------------------------------------------------------------------------------


def test_a_record_of_the_former_schema_is_judged_as_it_was() -> None:
    """Made with the recorder that wrote schema 1: error rows from flush to flush, no first step."""
    plan, _, store, _ = load_run(FORMER)
    assert plan.schema == 1 and plan.load.first_step == 0 and store.total_failures > 0
    rows = list(read_lines(FORMER / "windows.jsonl", ErrorRow | DeltaRow | MarkRow))
    assert any(step_of(r.first_s) < step_of(r.last_s) and r.step is None for r in rows if isinstance(r, ErrorRow))
    assert analyze(FORMER) == read_result(FORMER)


FIRST = 137
OWN = Scene(service=failing(INJECTED, ZERO + 1, 0.5, "refused"), recovery_s=1.1, after_s=25.0, ends=True)


def moved(row: Row, by: int) -> Row:
    """What is still open from before step 0 is left out."""
    seconds = round(by / 10, 1)
    if isinstance(row, DeltaRow):
        return replace(row, step=row.step + by, ended=None if row.ended is None else row.ended + by)
    if isinstance(row, ErrorRow):
        at, last = round(row.first_s + seconds, 3), round(row.last_s + seconds, 3)
        return replace(row, step=(row.step or 0) + by, first_s=at, last_s=last)
    waiting = [
        flattened({step + by: n for step, n in pairs(flat).items() if step + by >= 0})
        for flat in (row.open, row.unasked)
    ]
    return replace(row, at=round(row.at + seconds, 4), done=row.done + by, open=waiting[0], unasked=waiting[1])


@pytest.mark.parametrize("rate", [200.0, None])
def test_an_experiment_is_its_own_stretch_of_a_shared_load(tmp_path: Path, rate: float | None) -> None:
    """Before it everything failed, and some of that was still waiting for an answer when it began."""

    def service(at: float, draw: random.Random) -> Reply:
        before = Reply(5.0, "open" if at > FIRST / 10 - 0.5 else "status")
        return OWN.service(at - FIRST / 10, draw) if at >= FIRST / 10 else before

    scene = dataclasses.replace(OWN, rate=rate, service=service)
    plan = scene.plan()
    plan = replace(plan, load=replace(plan.load, first_step=FIRST))
    events, end_s = scene.events(plan)
    rows = scene.rows(plan, end_s + FIRST / 10)
    rows += [
        ErrorRow(worker="w0", kind="refused", name="GET /items", step=step, count=1, first_s=at, last_s=at, example=why)
        for step, at, why in ((FIRST - 1, FIRST / 10, "of the one before"), (FIRST + 300, FIRST / 10 + 30, "own"))
    ]
    found = analyze(Run(plan, events, rows).write(tmp_path / "shared"))

    own = [r for r in (moved(row, -FIRST) for row in rows) if (r.at if isinstance(r, MarkRow) else r.step or 0) >= 0]
    assert found == Run(plan, events, own).judge()
    assert found.verdict == "fail" and found.recovery is not None and found.recovery.outcome == "recovered"
    assert {(e.kind, e.name, e.example) for e in found.errors} == {
        ("refused", "GET /items", "own"),
        ("refused", "POST /items", ""),
    }
    assert load_run(tmp_path / "shared").store.gaps(0, round(end_s * 10)) == []
    if rate is None:  # without a schedule nothing of the plan is about the load's own time
        alone = replace(plan, load=replace(plan.load, first_step=0))
        assert found == Run(alone, events, own).judge()


# -- chart data --------------------------------------------------------------------------------------------------------


def test_chart_data_is_the_run() -> None:
    chart = chart_data(recorded().store(), recorded().samples)
    assert chart.step_s == 0.5 and len(chart.t) == len(chart.rps) == len(chart.p95_ms) == len(chart.in_flight)
    total = sum(v for v in chart.planned_rps if v is not None) * chart.step_s
    assert total == pytest.approx(
        recorded().store().totals(0, 10**6).arrivals.planned, rel=0.01
    )  # the last bin is half full
    at = chart.t.index(30.0)
    assert chart.failures["refused"][at] == pytest.approx(100, abs=60)
    assert chart.failures["refused"][chart.t.index(10.0)] == 0
    assert chart.signals["http_requests_total"][5] == pytest.approx(200)
    assert chart.signals["cache_hit_rate"][5] == 0.8
    assert chart.cpu["target"][0] is None and chart.cpu["target"][5] == pytest.approx(0.4)


def test_no_bar_begins_before_the_fault() -> None:
    """Phases begin on steps of 0.1 s, bars are half seconds: one across the edge showed failures in a healthy gap."""
    begin = 23.3
    run = Scene(service=failing(begin, ZERO, 1.0, "refused")).build()
    events = [
        msgspec.structs.replace(e, start_s=begin) if isinstance(e, ev.PhaseStarted) and e.phase == "fault" else e
        for e in run.events
    ]
    chart = chart_data(run.store(), [], events)
    ends = [at + length for at, length in zip(chart.t, chart.lengths_s, strict=True)]
    assert begin in chart.t and all(end == pytest.approx(at) for end, at in zip(ends, chart.t[1:], strict=False))
    assert not any(chart.failures["refused"][: chart.t.index(begin)])
    assert chart.failures["refused"][chart.t.index(begin)] == pytest.approx(200, abs=90)
    assert all(0.2 < length < 0.8 for length in chart.lengths_s[:-1])


def test_charts_end_with_the_load() -> None:
    """What the harness reads back afterwards is no traffic of the service, and no cold cache."""
    end = next(e.end_s for e in recorded().events if isinstance(e, ev.LoadEnded))
    late = Sample(at=end + 4, signals={"cache_hit_rate": 0.0, "http_requests_total": 1e6})
    chart = chart_data(recorded().store(), [*recorded().samples, late], recorded().events)
    assert chart.sample_t[-1] <= end and 0.0 not in chart.signals["cache_hit_rate"]
    assert chart.t[-1] + chart.lengths_s[-1] == pytest.approx(end)
    without = [e for e in recorded().events if not isinstance(e, ev.LoadEnded)]
    assert chart_data(recorded().store(), [*recorded().samples, late], without).sample_t[-1] == end + 4


def test_what_was_not_recorded_is_a_gap_and_not_zero() -> None:
    lost = Run(
        recorded().plan,
        recorded().events,
        [r for r in recorded().rows if not (isinstance(r, DeltaRow) and 300 <= r.step < 320)],
    )
    chart = chart_data(lost.store(), [])
    at = chart.t.index(30.5)
    assert chart.rps[at] is None and chart.p95_ms[at] is None and chart.failures["refused"][at] is None
    assert chart.rps[chart.t.index(20.0)] is not None


def test_a_phase_of_silence_in_the_closed_model_is_zero() -> None:
    run = Scene(rate=None, service=lambda at, draw: Reply(20.0)).build()
    run.rows = [r for r in run.rows if not (isinstance(r, DeltaRow) and 300 <= r.step < 320)]
    chart = chart_data(run.store(), [])
    assert chart.rps[chart.t.index(30.5)] == 0 and chart.planned_rps[0] is None


def test_long_runs_have_at_most_about_1200_points() -> None:
    for steps in (10, 600, 1200, 6000, 36_000, 864_000):
        assert steps / bin_steps(steps) <= 1201


def test_a_result_that_contradicts_its_own_pass_is_refused(tmp_path: Path) -> None:
    folder = Scene(rate=50.0).build().write(tmp_path)
    passed = analyze(folder)
    assert passed.verdict == "pass" and passed.recovery is not None
    write_result(folder, passed)
    assert read_result(folder) == passed
    first = next(target for target in passed.targets if target.primary)
    others = tuple(target for target in passed.targets if target is not first)
    for changed, says in (
        ({"targets": (msgspec.structs.replace(first, outcome="broken"), *others)}, "is broken"),
        ({"targets": (msgspec.structs.replace(first, outcome="undecided"), *others)}, "is undecided"),
        (
            {"targets": (msgspec.structs.replace(first, outcome="broken", primary=False), *others)},
            "is not judged in it",
        ),
        ({"targets": others}, "is not judged in it"),
        ({"targets": (), "faults": (), "recovery": None}, "is not judged in it"),
        ({"faults": ()}, "is not proven"),
        ({"faults": (msgspec.structs.replace(passed.faults[0], undo_verified=False),)}, "undo of .* is not verified"),
        ({"recovery": msgspec.structs.replace(passed.recovery, outcome="undecided")}, "had not recovered"),
        ({"faults": (msgspec.structs.replace(passed.faults[0], proven=False),)}, "is not proven"),
        ({"recovery": msgspec.structs.replace(passed.recovery, outcome="not_recovered")}, "had not recovered"),
    ):
        write_result(folder, msgspec.structs.replace(passed, **changed))
        with pytest.raises(UsageError, match=f"verdict pass, and .*{says}"):
            read_result(folder)


def test_a_target_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    """Reports show its text, and the judge goes by its fields."""
    run = Scene(rate=50.0, targets=("error_rate < 1%", "p95 < max(1.3x baseline, 80ms)")).build()
    assert analyze(run.write(tmp_path / "as it is")).targets
    for number, changed in enumerate(
        ({"value": 0.9}, {"phase": "after"}, {"op": ">"}, {"text": "nothing of the kind"})
    ):
        targets = tuple(
            msgspec.structs.replace(t, **changed) if t.text == "fault: error_rate < 1%" else t for t in run.plan.targets
        )
        forged = Run(msgspec.structs.replace(run.plan, targets=targets), run.events, run.rows)
        with pytest.raises(UsageError, match="a target that is not what"):
            analyze(forged.write(tmp_path / str(number)))
