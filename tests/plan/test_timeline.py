"""From entries to faults at their instants: what comes when, the same for every process, and what is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fault import registered
from harness.model.errors import Refused, UsageError
from harness.model.records.plan import PlannedFault
from harness.plan.files.entries import Entry, FaultEntry, RandomFaults, Repeat
from harness.plan.timeline import MAX_FAULTS, SETTLE_S, expand
from tests.plan.test_planner import DEPENDENCIES as PROXIED
from tests.plan.test_planner import make

DEPENDENCIES = tuple(
    one.but(process={"server": one.name, "keeper": "/nowhere"}, runtime="process", startable=True) for one in PROXIED
)

DRAWN = ("redis-down", "db-latency:latency=50ms", "kafka-down")


def planned(*entries: Entry, seed: int = 1, fault_s: float = 60.0) -> tuple[PlannedFault, ...]:
    return expand(entries, dependencies=DEPENDENCIES, faults=registered(), fault_s=fault_s, seed=seed)


def one(fault: str, **more: Any) -> FaultEntry:
    return FaultEntry(where="x.yaml:1: faults[0]", fault=fault, **more)


def draws(**more: Any) -> RandomFaults:
    given: dict[str, Any] = {"choose": DRAWN, "every_s": 20.0, "for_s": 5.0, "until_s": 120.0, **more}
    return RandomFaults(where="x.yaml:1: faults[0].random", **given)


def test_a_repeated_fault_comes_again_with_an_id_of_its_own() -> None:
    found = planned(one("redis-down", at_s=10.0, for_s=20.0, repeat=Repeat(every_s=30.0, times=5)))
    assert [f.id for f in found] == ["redis-down", *(f"redis-down#{n}" for n in range(2, 6))]
    assert [(f.at_s, f.for_s) for f in found] == [(10.0 + 30 * k, 20.0) for k in range(5)]
    assert found[1].spec.text == "redis-down@40s+20s", "what a person would type for it"


def test_parameters_beside_a_fault_mean_what_they_mean_in_its_text() -> None:
    as_text = planned(one("kafka-latency:latency=500ms,jitter=50ms@10s+20s"))
    as_keys = planned(one("kafka-latency", params={"latency": "500ms", "jitter": "50ms"}, at_s=10.0, for_s=20.0))
    assert as_keys[0].change == as_text[0].change
    assert (as_keys[0].at_s, as_keys[0].for_s) == (as_text[0].at_s, as_text[0].for_s)
    assert as_keys[0].spec.text == as_text[0].spec.text


def test_ids_follow_the_order_of_the_entries_and_stay_when_instants_move() -> None:
    for at in (0.0, 90.0):
        found = planned(one("redis-down@50s+10s"), one("kafka-down", at_s=at, for_s=5.0), one("redis-down@70s+10s"))
        assert [f.id for f in found] == ["redis-down", "kafka-down", "redis-down#2"]


def test_instants_lie_on_the_grid() -> None:
    found = planned(one("redis-down@1230ms+1110ms", repeat=Repeat(every_s=3.333, times=4)))
    assert all(round(f.at_s * 10) == pytest.approx(f.at_s * 10) for f in found)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    at=st.integers(0, 500),
    every=st.integers(11, 600),
    lasts=st.integers(1, 590),
    slots=st.integers(1, 40),
)
def test_draws_never_collide_and_never_leave_their_slots(
    seed: int, at: int, every: int, lasts: int, slots: int
) -> None:
    for_s = min(lasts / 10, every / 10 - SETTLE_S)
    entry = draws(every_s=every / 10, for_s=max(0.1, round(for_s, 1)), until_s=(at + every * slots) / 10, at_s=at / 10)
    found = planned(entry, seed=seed)
    assert len(found) == slots
    for k, fault in enumerate(found):
        assert fault.for_s is not None
        assert fault.at_s >= at / 10 + k * every / 10 - 1e-6
        assert fault.at_s + fault.for_s + SETTLE_S <= at / 10 + (k + 1) * every / 10 + 1e-6


def test_every_choice_is_drawn_and_another_seed_draws_something_else() -> None:
    entry = draws(until_s=2000.0)
    plans = [[(f.id, f.at_s) for f in planned(entry, seed=seed)] for seed in (1, 2, 1)]
    assert plans[0] == plans[2] != plans[1]
    names = [f.spec.name for f in planned(entry, seed=1)]
    assert {name: names.count(name) >= 20 for name in set(names)} == dict.fromkeys(
        ("redis-down", "db-latency", "kafka-down"), True
    )


def test_draws_of_two_entries_are_independent() -> None:
    found = planned(
        draws(choose=("redis-latency", "redis-slow-close")), draws(choose=("db-latency", "db-slow-close")), seed=5
    )
    assert len({f.at_s % 20 for f in found}) > 6


def test_the_same_seed_gives_the_same_plan_byte_for_byte_in_another_process() -> None:
    """Everything of the plan but its name, creation time and provenance."""
    code = (
        "import hashlib, sys\n"
        "from tests.plan.test_timeline import drawn_plan\n"
        "sys.stdout.write(hashlib.sha256(drawn_plan(42, sys.argv[1])).hexdigest())\n"
    )
    seen = {hashlib.sha256(drawn_plan(42, "2026-01-02T03:04:05.678Z")).hexdigest()}
    for hash_seed, created in (("1", "2027-01-01T00:00:00.000Z"), ("77", "2028-01-01T00:00:00.000Z")):
        done = subprocess.run(
            [sys.executable, "-c", code, created],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(done.stdout)
    assert len(seen) == 1
    assert drawn_plan(43, "2026-01-02T03:04:05.678Z") != drawn_plan(42, "2026-01-02T03:04:05.678Z")


def drawn_plan(seed: int, created: str) -> bytes:
    timeline = (draws(), one("redis-latency", at_s=130.0, for_s=2.0, repeat=Repeat(every_s=4.0, times=3)))
    # What the same request, seed and version give again byte for byte: all but when and where it was made.
    plan = make(timeline=timeline, seed=seed, created=created)
    return msgspec.json.encode(msgspec.structs.replace(plan, experiment="", created="", provenance=None))


def test_the_draws_of_a_seed_never_change() -> None:
    """A seed in an old report must still give the old run."""
    found = planned(draws(), seed=42)
    assert [(f.id, f.at_s) for f in found] == GOLDEN


GOLDEN = [
    ("db-latency", 4.6),
    ("db-latency#2", 27.1),
    ("redis-down", 48.5),
    ("redis-down#2", 62.0),
    ("redis-down#3", 86.5),
    ("kafka-down", 107.8),
]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ((one("redis-down", for_s=30.0, repeat=Repeat(every_s=20.0, times=3)),), "lasts 30s and comes again every 20s"),
        ((one("redis-down", for_s=20.0, repeat=Repeat(every_s=20.0, times=3)),), "leave 1s after `for`"),
        ((one("redis-down", repeat=Repeat(every_s=20.0, times=3)),), "`for` is missing"),
        ((one("redis-down", for_s=1.0, repeat=Repeat(every_s=5.0, times=10_000)),), "10,000 injections"),
        ((one("redis-down", for_s=1.0, repeat=Repeat(every_s=80_000.0, times=9)),), "24 hours"),
        ((one("redis-down", params={"fro": "5s"}),), "did you mean 'for'"),
        ((one("redis-latency", params={"latncy": "5s"}),), "did you mean 'latency'"),
        ((one("redis-latency", params={"latency": "5"}),), "x.yaml:1: faults[0]: latency"),
        ((one("redis-dwon"),), "x.yaml:1: faults[0]: unknown fault"),
        ((one("redis-restart", for_s=5.0),), "takes no duration"),
        ((draws(for_s=None),), "`for` is missing"),
        ((draws(choose=("redis-restart",)),), "`for` has no meaning"),
        ((draws(every_s=5.0),), "leave 1s after `for`"),
        ((draws(until_s=15.0),), "nothing is drawn"),
        ((draws(every_s=7.0, until_s=80_000.0),), "injections"),
        ((draws(choose=("redis-dwon",)),), "choose: unknown fault"),
        ((draws(choose=("redis-down@5s",)),), "names a start"),
        ((draws(choose=("redis-down+5s",)),), "names a start or duration"),
        ((draws(choose=("none",)),), "cannot be drawn"),
        ((one("none"), one("redis-down")), "control run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_in_one_line_that_says_where(entries: tuple[Entry, ...], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        planned(*entries)
    message = f"{caught.value} {caught.value.hint or ''}"
    assert says in message and "\n" not in message


def test_a_plan_of_too_many_faults_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match=f"1,000,000,000 injections; one run has {MAX_FAULTS}"):
        planned(one("redis-down", for_s=1.0, repeat=Repeat(every_s=2.0, times=10**9)))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ((one("redis-down@0s+20s"), one("redis-down@10s+20s")), "both set"),
        ((one("redis-down@0s+20s"), one("redis-latency@10s+20s")), "nothing can show that redis-latency is"),
        ((one("redis-latency@10s+20s"), one("redis-hang@0s+20s")), "while redis-hang is on"),
        ((one("redis-latency@10s+20s"), one("redis-restart@15s")), "while redis-restart is on"),
        ((one("redis-pause@10s+20s"), one("redis-flush@15s")), "while redis-pause is on"),
        ((one("redis-down@10s+20s"), one("redis-flush@15s")), "while redis-down is on"),
        ((one("redis-down@10s+20s"), one("redis-restart@15s")), "nothing can show"),
        ((draws(), one("redis-down@50s+5s")), "could be drawn for the same time"),
        ((draws(choose=("redis-latency",)), one("redis-down@50s+5s")), "could be drawn"),
        ((draws(), draws(choose=("kafka-down",), until_s=40.0)), "could be drawn"),
        ((one("db-connection-limit@0s+9s"), one("db-connection-limit:limit=1@5s+9s")), "both set"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults_that_would_meet_are_refused_whatever_the_seed(entries: tuple[Entry, ...], says: str) -> None:
    for seed in range(5):
        with pytest.raises(Refused) as caught:
            planned(*entries, seed=seed)
        assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entries",
    [
        (one("redis-down@0s+10s"), one("redis-down@10s+10s")),
        (one("redis-latency"), one("redis-latency:latency=50ms")),
        (one("redis-down"), one("kafka-down"), one("db-down")),
        (draws(), one("redis-down@120s+5s")),
        (draws(choose=("redis-latency",)), draws(choose=("redis-latency:latency=1s",))),
        (one("redis-down@0s+20s"), one("redis-restart@30s")),
    ],
    ids=range(6),
)
def test_faults_that_do_not_disturb_each_other_may_overlap(entries: tuple[Entry, ...]) -> None:
    assert planned(*entries)


def test_the_fault_phase_ends_with_the_last_fault() -> None:
    plan = make(
        timeline=(one("redis-down", at_s=10.0, for_s=4.0, repeat=Repeat(every_s=8.0, times=3)), one("kafka-latency+5s"))
    )
    assert plan.phases.fault_s == 30.0
    assert plan.experiment.endswith("-redis-down+kafka-latency-target"), "a name says each fault once"
