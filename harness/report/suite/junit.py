"""junit.xml of a suite: a test case an experiment, one for the gate, and one for a suite that ended badly.

As in the form of one run: broken is a failure, undecided an error (it could not tell), not run is skipped. A broken
experiment of which the gate knows nothing but weaknesses that somebody owns is skipped, with owner and reason.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import date

from harness.analysis.suite.age import stale_lines
from harness.model.exit_codes import ExitCode
from harness.model.records.many_runs.gate import GateResult
from harness.model.records.many_runs.suite import ExperimentResult, SuiteResult
from harness.report.junit import add_case, document, mark
from harness.report.suite import sentences as say
from harness.report.suite.evidence import Evidence
from harness.report.suite.page import first_step
from harness.report.suite.sentences import Weakness

JUDGED = (ExitCode.PASS, ExitCode.FAIL, ExitCode.INCONCLUSIVE)


def render(suite: SuiteResult, gate: GateResult | None, found: Sequence[Weakness], by: Evidence, today: date) -> str:
    root = ET.Element("testsuite")
    broken = {one.experiment.name: one for one in found}
    owned = known_only(gate)
    for one in suite.experiments:
        case = add_case(root, "experiment", one.name, sum(attempt.seconds for attempt in one.attempts))
        if one.name in owned and one.outcome == "broken":
            mark(case, "skipped", "known", f"known weakness: {owned[one.name]}")
        elif one.outcome == "broken":
            mark(case, "failure", "broken", _broken(broken[one.name], by))
        elif one.outcome == "unknown":
            mark(case, "error", "unknown", _with_command(say.why_undecided(one), one))
        elif one.outcome == "not_run":
            mark(case, "skipped", "not_run", f"not run: {say.why_undecided(one)}")
    if gate is not None:
        case = add_case(root, "suite", "gate")
        if gate.exit_code == ExitCode.FAIL:
            mark(case, "failure", "gate", gate.sentence)
        elif gate.exit_code != ExitCode.PASS:
            mark(case, "error", "gate", gate.sentence)
    if suite.exit_code not in JUDGED:
        case = add_case(root, "suite", "session", suite.seconds)
        mark(case, "error", "ended", "\n".join(suite.reasons) or f"exit code {suite.exit_code}")
    said = [say.headline(suite), say.interval(suite), *stale_lines(suite, today), *suite.reasons[:20]]
    said += [f"left out: {one.name}: {one.why}" for one in suite.excluded[:100]]
    return document(root, f"resilience / {suite.name}", suite.seconds, suite.started, said)


def known_only(gate: GateResult | None) -> dict[str, str]:
    """Experiments of which everything broken is known and in its bounds, with what is known of them."""
    if gate is None:
        return {}
    open_ = {one.experiment for one in (*gate.new, *gate.worse, *gate.expired, *gate.unknown)}
    found: dict[str, list[str]] = {}
    for one in gate.known:
        if one.experiment not in open_ and one.known is not None:
            found.setdefault(one.experiment, []).append(say.known_words(one, one.known, None))
    return {name: "; ".join(words) for name, words in found.items()}


def _broken(one: Weakness, by: Evidence) -> str:
    title, sentence = first_step(by.remedy(one.attempt), by.link(one.attempt))
    first = f"First: {title}: {sentence}" if sentence else f"First: {title}"
    return _with_command(
        "\n".join(part for part in (say.what_breaks(one), say.how_much(one), first) if part), one.experiment
    )


def _with_command(said: str, one: ExperimentResult) -> str:
    return f"{said}\nAgain: {one.command}" if one.command else said
