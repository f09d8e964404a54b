"""The drawing of a plan: everything at its place, at any width, in plain ASCII too; and a flapping fault seen live."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.model.records.live import LiveFault
from harness.plan.files.entries import FaultEntry, RandomFaults, Repeat
from harness.report.terminal.flapping import of_now
from harness.report.terminal.plan import plan_text
from harness.report.terminal.timeline import ASCII, Row, chart, plan_timeline
from tests.plan.test_planner import make

FLAPPING = FaultEntry(where="", fault="redis-down", at_s=10.0, for_s=10.0, repeat=Repeat(every_s=20.0, times=3))


def made(**options: Any) -> str:
    settings: dict[str, Any] = {"timeline": (FLAPPING,), "faults": ("kafka-latency@0s+60s", "db-latency@30s+1s")}
    width, ascii_only = options.pop("width", 100), options.pop("ascii_only", True)
    return plan_timeline(make(**{**settings, **options}), width=width, ascii_only=ascii_only)


def bar(drawn: str, name: str) -> str:
    """The columns of a row of the fault phase, without its label and words."""
    line = next(line for line in drawn.splitlines() if line.strip().startswith(name))
    ruler = next(line for line in drawn.splitlines() if re.fullmatch(r" *\|[-|]+", line))
    start = ruler.index("|")
    return line[start : len(ruler)].ljust(len(ruler) - start)


def test_bars_lie_at_their_instants() -> None:
    drawn = made()
    whole, flapping, short = (bar(drawn, name) for name in ("kafka-latency", "redis-down", "db-latency"))
    assert set(whole) == {"#"}, "from the first second to the last"
    runs = [(m.start() / len(flapping) * 60, m.end() / len(flapping) * 60) for m in re.finditer("#+", flapping)]
    assert [(round(a / 10), round(b / 10)) for a, b in runs] == [(1, 2), (3, 4), (5, 6)]
    assert short.count("#") in (1, 2) and round(short.index("#") / len(short) * 60) in (29, 30, 31)


def test_a_moment_is_drawn_however_short_the_axis() -> None:
    row = Row(label="redis-flush", spans=((5.0, None),))
    assert chart([row], 0.0, 10_000.0, width=60, glyphs=ASCII)[-1].count("!") == 1


def test_occurrences_that_run_into_each_other_are_told_apart() -> None:
    row = Row(label="x", spans=tuple((2.0 * k, 2.0 * k + 1) for k in range(40)))
    assert chart([row], 0.0, 80.0, width=60, glyphs=ASCII)[-1].count("|") > 20


@pytest.mark.parametrize("width", [20, 80, 120, 200])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"faults": ("none",), "timeline": ()},
        {"scenario": "spike", "faults": ("redis-down",), "timeline": ()},
        {"scenario": "stress"},
        {"timeline": (FaultEntry(where="", fault="redis-latency@0s+1s", repeat=Repeat(every_s=3.0, times=150)),)},
        {"timeline": (FaultEntry(where="", fault="redis-latency@20h+1h"),)},
        {
            "timeline": (
                RandomFaults(
                    where="", choose=("redis-latency", "redis-slow-close"), every_s=7.3, for_s=2.2, until_s=300.0
                ),
            )
        },
        {"baseline_s": 3600.0},
        {"run_time_s": 60.0, "soak_s": 1000.0},
    ],
    ids=range(9),
)
def test_no_plan_is_wider_than_the_terminal(width: int, ascii_only: bool, options: dict[str, Any]) -> None:
    drawn = made(width=width, ascii_only=ascii_only, **options)
    # Below 76 columns the phases' names have no room; above 160 lines are too long to follow.
    assert max(len(line) for line in drawn.splitlines()) <= min(max(width, 76), 160)
    assert not ascii_only or drawn.isascii()
    for phase in ("warmup", "baseline", "gap", "fault", "recovery", "after", "tail"):
        assert phase in drawn


def test_the_ramp_of_arrivals_is_drawn() -> None:
    load = next(line for line in made().splitlines() if line.strip().startswith("load"))
    assert re.search(r"\.+_+-+=+", load), load
    spike = made(scenario="spike", faults=("redis-down",), timeline=())
    load = next(line for line in spike.splitlines() if line.strip().startswith("load"))
    assert re.search(r"_+~+=+~+_+", load), "low, then the jump for the fault phase, then low again"


def test_a_change_that_is_made_many_times_is_told_once() -> None:
    text = plan_text(make(timeline=(FLAPPING,)), width=80)
    assert text.count("disables the Toxiproxy proxy redis") == 1 and "redis-down, 3 times" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def live(*states: str) -> tuple[LiveFault, ...]:
    return tuple(
        LiveFault(id="redis-down" + (f"#{n}" if n > 1 else ""), state=state, since_s=float(n))  # type: ignore[arg-type]
        for n, state in enumerate(states, 1)
    )


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (("planned", "planned", "planned"), ["redis-down (1 of 3) planned"]),
        (("verified", "proven", "planned"), ["redis-down (2 of 3) proven"]),
        (("verified", "verified", "planned"), ["redis-down (2 of 3) verified"]),
        (
            ("not verified", "injecting", "planned"),
            ["redis-down (1 of 3) not verified", "redis-down (2 of 3) injecting"],
        ),
        (("proven",), ["redis-down proven"]),
    ],
)
def test_of_a_flapping_fault_the_live_view_shows_what_matters_now(states: tuple[str, ...], shown: list[str]) -> None:
    assert [f"{fault.id} {fault.state}" for fault in of_now(live(*states))] == shown
