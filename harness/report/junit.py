"""junit.xml for CI: one test case a target and phase, one for recovery, one a fault's proof.

Follows the schema that Jenkins, GitLab and GitHub's reporters read: testsuites > testsuite > testcase with at
most one of failure, error, skipped. Broken primary targets are failures; undecided ones and a fault without
proof are errors (the run could not tell); secondary targets never fail a build and are skipped with their
observation, as is what was not judged.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from harness.analysis.record.spans import one_shots
from harness.model.records.metrics import Origin
from harness.model.records.plan import Plan
from harness.model.records.result import FaultResult, RecoveryResult, Result, TargetResult
from harness.report.html.tables import recovery_outcome
from harness.report.sentences import text
from harness.report.sentences.recovery_words import recovery_sentence
from harness.report.sentences.story import headline, title


def render(plan: Plan, result: Result) -> str:
    """A whole XML 1.0 document; control characters of outside text are spelt out."""
    suite = ET.Element("testsuite")
    lengths = {phase.name: phase.end_s - phase.start_s for phase in result.phases}
    length = max((phase.end_s for phase in result.phases), default=0.0)
    for target in result.targets:
        _target(suite, target, result.recovery, lengths.get(target.phase, 0.0) if target.phase else length)
    if plan.faults and not any(target.traits.origin is Origin.RECOVERY for target in result.targets):
        _recovery(suite, plan, result)
    for fault in result.faults:
        _proof(suite, plan, fault)
    _verdict(suite, plan, result, length)
    said = [headline(plan, result), *result.reasons, recovery_sentence(plan, result)]
    return document(suite, f"{title(plan)} / {plan.scenario.name}", length, result.started, said)


def document(suite: ET.Element, name: str, seconds: float, started: str | None, said: Sequence[str]) -> str:
    """Of a testsuite that has its cases: counted, named, and within its root. said: for its output."""
    cases = list(suite)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(each.find("failure") is not None for each in cases)),
        "errors": str(sum(each.find("error") is not None for each in cases)),
        "skipped": str(sum(each.find("skipped") is not None for each in cases)),
        "time": f"{seconds:.3f}",
    }
    suite.attrib.update({"name": text.xml_clean(name), **counts})
    if started:
        # The schema's timestamp is a dateTime without a zone; it is UTC.
        suite.set("timestamp", text.xml_clean(started).rstrip("Z")[:19])
    ET.SubElement(suite, "system-out").text = text.xml_clean("\n".join(said))
    root = ET.Element("testsuites", {"name": "resilience-harness", **counts})
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def add_case(suite: ET.Element, group: str, name: str, seconds: float = 0.0) -> ET.Element:
    """seconds: how long what the case speaks of was looked at."""
    return ET.SubElement(
        suite,
        "testcase",
        {"classname": f"resilience.{group}", "name": text.xml_clean(name, 300), "time": f"{seconds:.3f}"},
    )


def mark(case: ET.Element, tag: str, type_: str, message: str) -> None:
    cleaned = text.xml_clean(message)
    node = ET.SubElement(case, tag, {"message": cleaned} if tag == "skipped" else {"type": type_, "message": cleaned})
    if tag != "skipped":
        node.text = cleaned


def _target(suite: ET.Element, target: TargetResult, recovery: RecoveryResult | None, length: float) -> None:
    seconds = target.observed if target.traits.origin is Origin.RECOVERY and target.observed is not None else length
    case = add_case(suite, target.phase or "run", target.target, seconds)
    observed = "no data" if target.observed is None else text.in_unit(target.observed, target.traits.unit)
    why = f" {target.why}" if target.why else ""
    seen = f"observed {observed}.{why}"
    if target.traits.origin is Origin.RECOVERY and recovery is not None:
        outcome = recovery_outcome(recovery.outcome)
        seen = f"{outcome}.{why}" if target.observed is None else f"{outcome}, {seen}"
    match target.outcome:
        case "broken" if target.primary:
            mark(case, "failure", "broken", f"{target.target} is broken: {seen}")
        case "broken":
            mark(case, "skipped", "warning", f"warning, secondary target broken: {seen}")
        case "undecided" if target.primary:
            mark(case, "error", "undecided", f"{target.target} is undecided: {seen}")
        case "undecided" | "not_judged":
            mark(case, "skipped", target.outcome, f"{target.outcome.replace('_', ' ')}: {seen}")
        case "held":
            pass


def _recovery(suite: ET.Element, plan: Plan, result: Result) -> None:
    recovery = result.recovery
    case = add_case(suite, "run", "recovery", (recovery.seconds or 0.0) if recovery else 0.0)
    sentence = recovery_sentence(plan, result)
    if recovery is None or recovery.outcome == "not_judged":
        mark(case, "skipped", "not_judged", sentence)
    elif recovery.outcome == "not_recovered":
        mark(case, "failure", "not_recovered", sentence)
    elif recovery.outcome == "undecided":
        mark(case, "error", "undecided", sentence)


def _proof(suite: ET.Element, plan: Plan, fault: FaultResult) -> None:
    on = max(0.0, fault.undone_s - fault.injected_s) if fault.undone_s is not None and fault.injected_s else 0.0
    case = add_case(suite, "proof", f"{fault.name} was proven", on)
    if fault.injected_s is None:
        mark(case, "skipped", "not_injected", "never injected")
    elif not fault.proven:
        mark(case, "error", "not_proven", f"{fault.name} was not proven: {fault.missing or 'no evidence'}")
    if fault.name in one_shots(plan) and fault.undo_verified is None:
        return  # a moment, over before it could be undone
    case = add_case(suite, "undo", f"{fault.name} was undone and verified")
    if fault.injected_s is None:
        mark(case, "skipped", "not_injected", "never injected")
    elif not fault.undo_verified:
        mark(case, "error", "undo_not_verified", f"the undo of {fault.name} was not verified")


def _verdict(suite: ET.Element, plan: Plan, result: Result, length: float) -> None:
    """So that a verdict that comes from no single target (lost data, a recording gap) is seen in CI too."""
    case = add_case(suite, "run", "verdict", length)
    reasons = "\n".join([headline(plan, result), *result.reasons])
    if result.verdict == "fail":
        mark(case, "failure", "fail", reasons)
    elif result.verdict == "inconclusive" or result.exit_code not in (0, 1):
        mark(case, "error", "inconclusive", reasons)
