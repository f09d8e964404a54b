"""junit.xml as CI systems read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import pytest

from harness.report import junit

from .sample import Kind, plan_of, result

CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
}
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors", "skipped"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"name", "classname", "time"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"message"},
    "system-out": set(),
}
"""The elements and attributes that the schema of Jenkins' xUnit plug-in knows."""


def parsed(kind: Kind) -> ET.Element:
    return ET.fromstring(junit.render(plan_of(kind), result(kind)))


@pytest.mark.parametrize("kind", ["fail", "pass", "inconclusive", "interrupted", "control", "hostile"])
def test_follows_the_schema(kind: Kind) -> None:
    root = parsed(kind)
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES[element.tag]
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
    for suite in root:
        cases = suite.findall("testcase")
        for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            found = [case for case in cases if case.find(tag) is not None]
            assert int(suite.attrib[attribute]) == len(found) == int(root.attrib[attribute])
        assert int(suite.attrib["tests"]) == len(cases)
        assert all(len(case) <= 1 for case in cases)
        names = [(case.attrib["classname"], case.attrib["name"]) for case in cases]
        assert len(set(names)) == len(names)


def outcome(root: ET.Element, name: str) -> str:
    case = next(case for case in root.iter("testcase") if case.attrib["name"] == name)
    return case[0].tag if len(case) else "passed"


def test_a_broken_primary_target_fails_the_build_and_a_secondary_one_does_not() -> None:
    root = parsed("fail")
    assert outcome(root, "fault: error_rate < 1%") == "failure"
    assert outcome(root, "baseline: error_rate < 1%") == "passed"
    assert outcome(root, "fault: p99 < 500ms") == "skipped"
    assert outcome(root, "recovery < 30s") == "passed"
    assert outcome(root, "verdict") == "failure"


def test_what_could_not_be_decided_is_an_error_not_a_pass() -> None:
    root = parsed("inconclusive")
    assert outcome(root, "redis-down was proven") == "error"
    assert outcome(root, "after: p95 < 200ms") == "error"
    assert outcome(root, "verdict") == "error"


def test_an_undo_that_was_not_verified_is_an_error() -> None:
    passed = result("pass")
    left = msgspec.structs.replace(passed.faults[0], undo_verified=False)
    root = ET.fromstring(junit.render(plan_of("pass"), msgspec.structs.replace(passed, faults=(left,), exit_code=5)))
    assert outcome(root, "redis-down was undone and verified") == "error"
    assert outcome(root, "verdict") == "error"


def test_a_pass_has_no_failure() -> None:
    root = parsed("pass")
    assert (root.attrib["failures"], root.attrib["errors"]) == ("0", "0")
