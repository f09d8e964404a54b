"""The gate: outcomes against those that were accepted, never figures.

1   newly broken in 2 of 3 attempts, or a known weakness that is beyond what was accepted of it, or has expired
3   decided in the base, and unknown now
0   everything else

A new or changed experiment is listed and not compared. What is new or undecided is run twice more before it is judged
(to_confirm): the worst of 27 single outcomes is red on a quarter of all nights (benchmarks/gate.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from harness.analysis.statistics.binomial import BROKEN_BELOW, tail
from harness.analysis.suite.age import by_reason, day_of, since_of, until_of, why_stale
from harness.analysis.suite.outcomes import CONFIRMED, Item, Seen, base_states, items
from harness.analysis.suite.score import carried_out
from harness.model.errors import UsageError
from harness.model.exit_codes import ExitCode
from harness.model.records.many_runs.gate import Base, BaseExperiment, Finding, GateResult, Known
from harness.model.records.many_runs.suite import Attempt, Cell, CellOutcome, ExperimentResult, SuiteResult
from harness.model.records.metrics import Origin
from harness.model.target_grammar import parse_targets
from harness.model.units import format_duration, format_percent

ATTEMPTS = 3


def gate(base: Base, known: Sequence[Known], suite: SuiteResult, today: date) -> GateResult:
    """What a suite's outcomes say against those that were accepted."""
    found = _Findings(base, known, suite, today, CONFIRMED)
    failed = found.new or found.worse or found.expired
    undecided = found.unknown or not found.compared
    code = ExitCode.FAIL if failed else ExitCode.INCONCLUSIVE if undecided else ExitCode.PASS
    return GateResult(
        exit_code=int(code),
        sentence=_sentence(found, code),
        new=tuple(found.new),
        worse=tuple(found.worse),
        expired=tuple(found.expired),
        unknown=tuple(found.unknown),
        known=tuple(found.known),
        fixed=tuple(found.fixed),
        listed=tuple(found.listed),
        stale=by_reason(found.stale),
        day=today.isoformat(),
    )


def to_confirm(base: Base | None, known: Sequence[Known], suite: SuiteResult, today: date) -> tuple[str, ...]:
    """The experiments to run twice more, in the suite's order: those whose outcome is new or undecided."""
    found = _Findings(base, known, suite, today, 1) if base is not None else None
    differs: set[str] = set()
    if found is not None:
        differs = {one.experiment for one in (*found.new, *found.worse, *found.unknown, *found.fixed)}
    return tuple(
        one.name
        for one in suite.experiments
        if 0 < len(carried_out(one)) < ATTEMPTS
        and (
            one.name in differs
            or (one.outcome in ("broken", "unknown") and (found is None or one.name not in found.compared))
        )
    )


class _Findings:
    """needed: attempts that must show what is broken before it counts."""

    def __init__(self, base: Base, known: Sequence[Known], suite: SuiteResult, today: date, needed: int) -> None:
        self.today, self.needed = today, needed
        self.new: list[Finding] = []
        self.worse: list[Finding] = []
        self.expired: list[Finding] = []
        self.unknown: list[Finding] = []
        self.known: list[Finding] = []
        self.fixed: list[Finding] = []
        self.listed: list[str] = []
        self.compared: set[str] = set()
        self.stale: dict[str, str] = {}
        self.base, self.version = base, suite.target_version
        self.other_load = base.load != suite.load
        if self.other_load:
            self.listed.append(
                "the load is another than the base's: request names that only one of them has are not compared"
            )
        by_experiment: dict[str, list[Known]] = {}
        for one in known:
            by_experiment.setdefault(one.experiment, []).append(one)
        for experiment in suite.experiments:
            owned = by_experiment.pop(experiment.name, [])
            before = base.experiments.get(experiment.name)
            if before is not None and before.definition == experiment.definition and carried_out(experiment):
                self._compare(experiment, before, owned)
            else:
                self._list(experiment, before, owned)
        there = {one.name for one in suite.experiments}
        left = {one.name: one.why for one in suite.excluded}
        self.listed += [
            f"{name} is in the base and " + left.get(name, "no longer in the suite")
            for name in base.experiments
            if name not in there
        ]
        self.listed += [f"{name}: a known weakness of an experiment that is not in the suite" for name in by_experiment]

    def _list(self, experiment: ExperimentResult, before: BaseExperiment | None, owned: Sequence[Known]) -> None:
        if before is None:
            self.listed.append(f"{experiment.name} is new: {experiment.outcome.replace('_', ' ')}")
        elif before.definition != experiment.definition:
            self.listed.append(f"{experiment.name} has changed: {experiment.outcome.replace('_', ' ')}")
        elif before.outcome in ("held", "broken"):
            why = f"not run{': ' if experiment.why else ''}{experiment.why}"
            self.unknown.append(Finding(experiment=experiment.name, outcome="unknown", why=why))
        for one in owned:
            at = self.expired if until_of(one) < self.today else self.known
            at.append(_finding(experiment, (one.request, one.target), "unknown", "not compared", one))

    def _compare(self, experiment: ExperimentResult, before: BaseExperiment, owned: Sequence[Known]) -> None:
        self.compared.add(experiment.name)
        day, version = found_on(self.base, before)
        if why := why_stale(day_of(day), version, today=self.today, now=self.version):
            self.stale[experiment.name] = why
        states = base_states(before)
        # Of a request name the target is only told: what it breaks may differ from night to night.
        by_item: dict[Item, Known] = {(one.request, "" if one.request else one.target): one for one in owned}
        unknown = len(self.unknown)
        for item, seen in items(experiment, [*states, *by_item]).items():
            if item in by_item:
                self._owned(experiment, item, seen, by_item[item])
                continue
            # A target that is not in the base's list was not broken in it.
            was = states.get(item, None if item[0] else "held" if before.outcome in ("held", "broken") else "unknown")
            if self.other_load and (was is None or (item[0] and all(cell is None for _, cell in seen.attempts))):
                continue
            if seen.broken >= self.needed and seen.state == "broken":
                more = "; broken in the base, too, and nobody owns it" if was == "broken" else ""
                self.new.append(_finding(experiment, item, "broken", _broken_words(item, seen) + more))
            elif seen.state == "broken":
                self.unknown.append(_finding(experiment, item, "unknown", "broken once: not confirmed"))
            elif seen.state == "unknown" and was in ("held", "broken", "allowed"):
                self.unknown.append(_finding(experiment, item, "unknown", _unknown_words(seen)))
            elif seen.state in ("held", "allowed") and was == "broken":
                self.fixed.append(_finding(experiment, item, "held", ""))
        if before.outcome in ("held", "broken") and len(self.unknown) == unknown:
            # Undecided for another reason than a request name, each of which has its own say.
            attempts = carried_out(experiment)
            doubtful = [
                one
                for one in attempts
                if one.outcome == "unknown" and not any(cell.outcome == "unknown" for cell in one.cells)
            ]
            if 2 * len(doubtful) > len(attempts):
                self.unknown.append(Finding(experiment=experiment.name, outcome="unknown", why=doubtful[0].reason))

    def _owned(self, experiment: ExperimentResult, item: Item, seen: Seen, known: Known) -> None:
        if seen.state in ("held", "allowed"):
            why = "it is declared that it may be broken" if seen.state == "allowed" else ""
            self.fixed.append(_finding(experiment, item, "held", why, known))
            return
        outcome: CellOutcome = "broken" if seen.state == "broken" else "unknown"
        if until_of(known) < self.today:
            self.expired.append(_finding(experiment, item, outcome, f"was known until {_day(until_of(known))}", known))
            return
        worse = [why for attempt, cell in seen.attempts if (why := beyond(known, attempt, cell))]
        if len(worse) >= self.needed and 2 * len(worse) > len(seen.attempts):
            self.worse.append(_finding(experiment, item, "broken", worse[0], known))
        elif outcome == "unknown":
            self.unknown.append(_finding(experiment, item, "unknown", _unknown_words(seen), known))
        elif worse and len(seen.attempts) < CONFIRMED:
            self.unknown.append(_finding(experiment, item, "unknown", f"{worse[0]}: not confirmed", known))
        else:
            self.known.append(_finding(experiment, item, "broken", "", known))


def found_on(base: Base, one: BaseExperiment) -> tuple[str, str]:
    """When and of which version of the target an outcome of the base was found."""
    return one.day or base.day or base.accepted, one.target_version or base.target_version or ""


def _finding(
    experiment: ExperimentResult, item: Item, outcome: CellOutcome, why: str, known: Known | None = None
) -> Finding:
    return Finding(experiment=experiment.name, request=item[0], target=item[1], outcome=outcome, why=why, known=known)


def _broken_words(item: Item, seen: Seen) -> str:
    cell = seen.cell
    often = f"in {seen.broken} of {len(seen.attempts)} attempts" if len(seen.attempts) > 1 else "once"
    if item[0] and cell is not None:
        return f"{cell.bad:,} of {cell.n:,} requests were bad ({cell.target}), {often}" if cell.target else often
    return often


def _unknown_words(seen: Seen) -> str:
    if seen.broken:
        return f"broken in {seen.broken} of {len(seen.attempts)} attempts"
    return (seen.cell.why if seen.cell is not None else "") or "undecided, or not asked for"


def beyond(known: Known, attempt: Attempt, cell: Cell | None) -> str:
    """How an attempt is worse than what was accepted; empty: it is not, or it cannot be told."""
    if known.at_most is None or attempt.outcome != "broken":
        return ""
    if known.request:
        if cell is None or cell.outcome != "broken" or tail(cell.bad, cell.n, min(known.at_most, 1.0)) >= BROKEN_BELOW:
            return ""
        return f"{format_percent(cell.bad / cell.n)} bad, and at most {format_percent(known.at_most)} was accepted"
    if not is_recovery(known.target) or known.target not in attempt.broken_targets:
        return ""
    if attempt.recovery_s is None:
        return f"it did not recover, and at most {format_duration(known.at_most)} was accepted"
    if attempt.recovery_s <= known.at_most:
        return ""
    took = format_duration(attempt.recovery_s)
    return f"recovery took {took}, and at most {format_duration(known.at_most)} was accepted"


def is_recovery(text: str) -> bool:
    try:
        return parse_targets(text)[0].traits.origin is Origin.RECOVERY
    except UsageError:
        return False


def _sentence(found: _Findings, code: ExitCode) -> str:
    """What the gate says first."""
    owned = [one.known for one in found.known if one.known is not None]
    parts = [
        _counted(found.new, "newly broken"),
        _counted(found.worse, "known and worse than accepted"),
        _counted(found.expired, "known until a day that has passed"),
        _counted(found.unknown, "decided before and unknown now"),
    ]
    said = [part for part in parts if part]
    if not found.compared:
        said.append("no experiment of the base could be compared")
    if owned:
        weaknesses = "known weakness" if len(owned) == 1 else "known weaknesses"
        next_day = min(until_of(one) for one in owned)
        ages = [(found.today - since).days for one in owned if (since := since_of(one)) is not None]
        oldest = f", {'' if len(owned) == 1 else 'the oldest '}known for {max(ages)} days" if any(ages) else ""
        said.append(f"{len(owned)} {weaknesses}{oldest}, next expires on {_day(next_day)}")
    remove = sum(1 for one in found.fixed if one.known is not None)
    if remove:
        said.append("1 known weakness holds now: remove it" if remove == 1 else f"{remove} hold now: remove them")
    if found.stale:
        said.append(f"{len(found.stale)} of {len(found.compared)} outcomes compared with are stale, and count")
    head = {ExitCode.FAIL: "failed", ExitCode.INCONCLUSIVE: "undecided"}.get(code, "passed")
    return ", ".join([head, *said])


def _counted(found: Collection[Finding], words: str) -> str:
    return f"{len(found)} {words}" if found else ""


def _day(day: date) -> str:
    return f"{day.day} {day:%B}"
