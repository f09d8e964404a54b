"""What is advised first of what is broken is about the service, not about the run that has shown it."""

from __future__ import annotations

from harness.report.findings.finding import Finding
from harness.report.suite import evidence as module
from tests.report.sample import plan, result


def test_an_overloaded_generator_is_no_remedy(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = [Finding(key=key, title=key, seen="", advice="") for key in ("saturated-generator", "no-fallback")]
    monkeypatch.setattr(module, "findings", lambda plan, result: found)
    monkeypatch.setattr(module.run_directory, "made_of", lambda folder, work: work())
    monkeypatch.setattr(module.run_directory, "read_plan", lambda folder: plan())
    monkeypatch.setattr(module.run_directory, "read_result", lambda folder: result())
    assert [one.key for one in module._remedies(tmp_path)] == ["no-fallback"]
