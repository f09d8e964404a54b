"""A fault that people end while it is on: its proof up to then stands; without that it did not stay on."""

from __future__ import annotations

from msgspec.structs import replace

from harness.analysis.verdict.proofs import fault_results
from harness.model.records import events as ev
from harness.model.records.faults import Evidence
from harness.report.sentences.story import undo_words
from tests.plan.test_decide import fault, plan

SEEN = Evidence(source="api", expected="disabled", observed="disabled", held=True, at=41.0)
OFF = Evidence(source="api", expected="disabled", observed="enabled", held=False, at=42.0)


def history(*, mended: bool) -> list[ev.Event]:
    def made(kind: type, at: float, **fields: object) -> ev.Event:
        found: ev.Event = kind(at=at, wall="2026-11-30T12:00:00.000Z", experiment="x", fault="redis-down", **fields)
        return found

    return [
        made(ev.FaultRequested, 40.0),
        made(ev.FaultInjected, 40.1, sent_s=40.0),
        made(ev.FaultProven, 40.2),
        made(ev.FaultEvidence, 41.0, stage="held", evidence=SEEN),
        made(ev.FaultEvidence, 42.0, stage="held", evidence=OFF),
        *([made(ev.FaultMended, 42.1, seen_on_s=41.0)] if mended else []),
        made(ev.Undone, 42.3, sent_s=42.2),
        made(ev.UndoVerified, 42.4, evidence=()),
    ]


def test_the_proof_up_to_the_mending_stands() -> None:
    planned = plan(fault("redis-down"))
    (result,) = fault_results(planned, history(mended=True))
    assert result.proven and result.missing is None and result.mended_s == 42.1 and result.undo_verified
    assert undo_words(planned, result) == "ended by hand at 42.1s and verified"


def test_what_went_off_by_itself_was_not_mended() -> None:
    planned = plan(fault("redis-down"))
    (result,) = fault_results(planned, history(mended=False))
    assert not result.proven and "did not stay on" in str(result.missing) and result.mended_s is None
    assert undo_words(planned, result) == "undone at 42.3s and verified"


def test_what_was_off_before_anybody_mended_it_is_no_proof() -> None:
    early = [
        replace(event, evidence=replace(OFF, at=40.5))
        if isinstance(event, ev.FaultEvidence) and event.at == 41.0
        else event
        for event in history(mended=True)
    ]
    (result,) = fault_results(plan(fault("redis-down")), early)
    assert not result.proven
