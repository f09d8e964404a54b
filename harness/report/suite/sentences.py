"""What is said of a suite. Every sentence has a condition; outside text in it is not yet escaped for its place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import msgspec

from harness.analysis.suite.age import owned_words, stale_words
from harness.analysis.suite.isolation import MOSTLY, Isolation
from harness.analysis.suite.score import cells_of_most
from harness.model.records.many_runs.gate import Finding, GateResult, Known
from harness.model.records.many_runs.suite import Attempt, Cell, ExperimentResult, SuiteResult
from harness.model.records.result import AlertResult
from harness.report.sentences import detection, text

WORST = 3
"""Findings on the first screen."""
OPEN = ("fired_without_impact", "carried_over", "not_judged")
"""Outcomes of alerts that say neither that an impact was noticed nor that it was not."""
NAMES = 3
"""Request names in a sentence."""


class Weakness(msgspec.Struct, frozen=True, kw_only=True):
    """A broken experiment. cells: of request names that most attempts broke and that may not be; the worst first."""

    experiment: ExperimentResult
    attempt: Attempt | None
    cells: tuple[Cell, ...]

    @property
    def bad(self) -> int:
        """Bad requests: the harm, else those of the broken names while the fault was on."""
        if self.attempt is not None and self.attempt.harm is not None:
            return self.attempt.harm
        return sum(cell.bad for cell in self.cells)


def weaknesses(suite: SuiteResult) -> tuple[Weakness, ...]:
    """The worst first: what lost acknowledged writes, then by bad requests, then by how long targets were violated."""
    found = []
    for one in suite.experiments:
        if one.outcome == "broken":
            hurt = [cell for cell in cells_of_most(one) if cell.outcome == "broken" and not cell.may_fail]
            hurt.sort(key=lambda cell: (-cell.bad, cell.request))
            found.append(Weakness(experiment=one, attempt=one.shown, cells=tuple(hurt)))
    return tuple(sorted(found, key=_rank))


def _rank(one: Weakness) -> tuple[int, int, float]:
    attempt = one.attempt
    return (-attempt.lost_writes, -one.bad, -(attempt.violating_s or 0.0)) if attempt is not None else (0, 0, 0.0)


def headline(suite: SuiteResult) -> str:
    """Counts, never a percentage: `held 17, broken 4, unknown 6 of 27`."""
    score = suite.score
    said = f"held {score.held}, broken {score.broken}, unknown {score.unknown}"
    if score.not_run:
        said += f", not run {score.not_run}"
    return f"{said} of {len(suite.experiments)}"


def verdict(suite: SuiteResult) -> tuple[str, str]:
    """(class, word). Held is said only where every experiment is decided."""
    score = suite.score
    if score.broken:
        return "fail", "WEAKNESSES FOUND"
    if score.unknown or score.not_run or not suite.experiments:
        return "inconclusive", "NOT ALL IS KNOWN"
    return "pass", "EVERY EXPERIMENT HELD"


def interval(suite: SuiteResult) -> str:
    """The score. One number only where nothing is unknown."""
    score = suite.score
    if not suite.experiments:
        return "No score: no experiment is in this suite."
    low, high = score_ends(suite)
    open_ = score.unknown + score.not_run
    if not open_:
        return f"Score {low} of 100: every experiment is decided."
    if open_ == 1:
        return f"Score {low} to {high} of 100: it is {low} if the undecided one breaks, {high} if it holds."
    return f"Score {low} to {high} of 100: it is {low} if all {open_} undecided ones break, {high} if all of them hold."


def score_ends(suite: SuiteResult) -> tuple[int, int]:
    """In whole numbers, and 0 or 100 only where that is exact."""

    def whole(value: float) -> int:
        return round(value) if value in (0.0, 100.0) else min(99, max(1, round(value)))

    return whole(suite.score.low), whole(suite.score.high)


def nothing_broken(suite: SuiteResult) -> str:
    """What may be said where no experiment is broken; empty where one is."""
    score = suite.score
    open_ = score.unknown + score.not_run
    if score.broken:
        return ""
    if not suite.experiments:
        return "Nothing was tried, so nothing is known."
    if not open_:
        return "Nothing that was tried broke." + (" What was left out is listed below." if suite.excluded else "")
    if not score.held:
        return "No experiment was decided: nothing is known to hold, and nothing to break."
    return f"Nothing broke in {_n(score.held, 'experiment')}. {open_} more are unknown or were not run, and may break."


def undecided(suite: SuiteResult) -> str:
    """Why what is unknown is: the first, and how many more; empty where nothing is."""
    found = [one for one in suite.experiments if one.outcome in ("unknown", "not_run")]
    if not found:
        return ""
    more = f" And {len(found) - 1} more." if len(found) > 1 else ""
    return f"Not decided: {_name(found[0].name)}: {_ended(why_undecided(found[0]))}{more}"


def why_undecided(one: ExperimentResult) -> str:
    """Of an experiment that is unknown or was not run."""
    if one.outcome == "not_run":
        return one.why or "not run"
    if one.shown is not None:
        return one.shown.reason or "undecided"
    broken = sum(attempt.outcome == "broken" for attempt in one.attempts)
    return f"its attempts do not agree: broken in {broken} of {len(one.attempts)}" if one.attempts else "no attempt"


def what_breaks(one: Weakness) -> str:
    """Which requests fail or are too slow, else which target is broken, else what the result says."""
    during = f"With {_name(one.experiment.name)}" if one.experiment.faults else "Without any fault"
    failing = [cell.request for cell in one.cells if cell.failed > MOSTLY * cell.bad]
    slow = [cell.request for cell in one.cells if cell.failed <= MOSTLY * cell.bad]
    said = [f"{names(failing)} {_s(failing, 'fails', 'fail')}"] if failing else []
    said += [f"{names(slow)} {_s(slow, 'is', 'are')} too slow"] if slow else []
    if said:
        return f"{during}, {' and '.join(said)}."
    attempt = one.attempt
    if attempt is not None and attempt.lost_writes:
        return f"{during}, writes are acknowledged and lost."
    if attempt is not None and attempt.broken_targets:
        more = f" and {len(attempt.broken_targets) - 1} more" if len(attempt.broken_targets) > 1 else ""
        return f"{_name(one.experiment.name)} breaks the target {_name(attempt.broken_targets[0])}{more}."
    if attempt is not None and attempt.reason:
        return f"{_name(one.experiment.name)}: {_ended(attempt.reason)}"
    return f"{_name(one.experiment.name)} is broken; no attempt on record says how."


def how_much(one: Weakness) -> str:
    """Bad requests, lost writes, how long, recovery: what is on record of these, in one sentence."""
    attempt = one.attempt
    if attempt is None:
        return ""
    said = []
    if attempt.harm is not None:
        said.append(f"{_n(attempt.harm, 'bad request')} beyond baseline's share")
    elif one.cells:
        said.append(f"{_n(one.bad, 'bad request')} while the fault was on")
    if attempt.lost_writes:
        said.append(f"{_n(attempt.lost_writes, 'acknowledged write')} lost")
    if attempt.violating_s:
        said.append(f"targets violated for {text.seconds(attempt.violating_s)}")
    if recovered := recovery(attempt):
        said.append(recovered)
    if len(one.experiment.attempts) > 1:
        broken = sum(each.outcome == "broken" for each in one.experiment.attempts)
        said.append(f"broken in {broken} of {len(one.experiment.attempts)} attempts")
    joined = "; ".join(said)
    return f"{joined[0].upper()}{joined[1:]}." if said else ""


def recovery(attempt: Attempt) -> str:
    """Nothing where it was not judged, or there was nothing to recover from."""
    if attempt.recovery == "recovered" and attempt.recovery_s is not None:
        return f"recovered {text.seconds(round(attempt.recovery_s, 1))} after the fault"
    if attempt.recovery == "not_recovered":
        return "not recovered when the experiment ended"
    return "recovery undecided" if attempt.recovery == "undecided" else ""


def needs(found: Isolation) -> list[str]:
    """What a dependency's experiments show that nobody declared, and what froze."""
    said = []
    for need in found.undeclared:
        how = "fails" if need.fails else "gets too slow"
        declared = ", which is declared of some experiments only" if need.partly else ", and no declaration says so"
        if need.independent:
            declared = " though it is declared independent"
        said.append(f"{_name(need.request)} {how} with {_name(found.dependency)}{declared}.")
    for one in found.froze:
        said.append(
            f"Everything froze in {_name(one.experiment)}: every request was broken, also {names(one.requests)}, "
            f"declared independent of {_name(found.dependency)} or sound in another of its experiments."
        )
    return said


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What is declared of a request name and a dependency."""

    independent: bool = False
    may_fail: bool = False


def declarations(suite: SuiteResult) -> dict[tuple[str, str], Declared]:
    """By dependency and request name, as the experiments of it have them."""
    found: dict[tuple[str, str], Declared] = {}
    for one in suite.experiments:
        for cell in cells_of_most(one):
            key = one.dependency, cell.request
            before = found.get(key, Declared())
            found[key] = Declared(
                independent=before.independent or cell.independent, may_fail=before.may_fail or cell.may_fail
            )
    return found


def status(name: str, gate: GateResult | None) -> str:
    """What the gate says of a broken experiment, the worst first; empty where it says nothing."""
    if gate is None:
        return ""
    for word, found in (
        ("new", gate.new),
        ("known, and worse than accepted", gate.worse),
        ("known until a day that has passed", gate.expired),
        ("known", gate.known),
    ):
        if any(one.experiment == name for one in found):
            return word
    return ""


def known(gate: GateResult | None, day: date | None) -> list[str]:
    """Known weaknesses: owner, until when, the reason. day: of the suite."""
    found = [*gate.expired, *gate.worse, *gate.known] if gate is not None else []
    found.sort(key=lambda one: one.known.until if one.known is not None else "")
    return [known_words(one, one.known, day) for one in found if one.known is not None]


def known_words(found: Finding, owned: Known, day: date | None) -> str:
    said = f"{item(found)}: {text.visible(owned_words(owned, day), 200)}"
    if owned.ticket:
        said += f", {_name(owned.ticket)}"
    if owned.reason:
        said += f". Reason: {text.visible(owned.reason, 200)}"
    return said + (f" ({text.visible(found.why, 200)})" if found.why else "")


def item(found: Finding) -> str:
    what = found.request or found.target
    return f"{_name(found.experiment)}, {_name(what) if what else 'as a whole'}"


def changes(gate: GateResult) -> list[tuple[str, list[str]]]:
    """What is otherwise than in the base, by kind; kinds that have nothing are left out."""

    def said(found: Sequence[Finding]) -> list[str]:
        return [item(one) + (f": {text.visible(one.why, 300)}" if one.why else "") for one in found]

    sections = [
        ("Newly broken", said(gate.new)),
        ("Known, and worse than accepted", said(gate.worse)),
        ("Known until a day that has passed", said(gate.expired)),
        ("Decided in the base, unknown now", said(gate.unknown)),
        ("Holds now", [one + remove for one, remove in zip(said(gate.fixed), map(_remove, gate.fixed), strict=True)]),
        ("Stale in the base, and compared all the same", [text.visible(stale_words(one), 500) for one in gate.stale]),
        ("Not compared", [text.visible(one, 300) for one in gate.listed]),
    ]
    return [(title, lines) for title, lines in sections if lines]


def _remove(found: Finding) -> str:
    return "; remove it from the known weaknesses" if found.known is not None else ""


def resets(suite: SuiteResult) -> list[tuple[ExperimentResult, Attempt, str]]:
    """What was done to the target because its targets were not seen to hold again."""
    return [
        (one, attempt, f"after {_name(one.name)}: {text.visible(attempt.reset, 200)}")
        for one in suite.experiments
        for attempt in one.attempts
        if attempt.reset
    ]


def alerts(suite: SuiteResult) -> list[tuple[ExperimentResult, Attempt, AlertResult]]:
    """Each expected alert of each experiment, as the attempt that stands for it saw it."""
    shown = [(one, one.shown) for one in suite.experiments]
    return [(one, attempt, alert) for one, attempt in shown if attempt is not None for alert in attempt.alerts]


def noticed(suite: SuiteResult) -> str:
    """What they say together; "" where none was expected of what was carried out."""
    found = [alert for _, _, alert in alerts(suite)]
    if not found:
        return ""
    judged = [one for one in found if one.outcome in ("detected", "held_back", "never_fired")]
    detected = sum(one.outcome == "detected" for one in judged)
    said = f"Of {_n(len(judged), 'expected alert')} that could be judged {detected} detected the impact"
    said = said if judged else "No expected alert could be judged by an impact"
    others = {word: sum(one.outcome == key for one in found) for key, word in detection.WORDS.items() if key in OPEN}
    if rest := [f"{count} {word}" for word, count in others.items() if count]:
        said += f"; {', '.join(rest)}"
    alarms = sum(one.false_alarms for one in found)
    return f"{said}; {_n(alarms, 'false alarm')}." if alarms else f"{said}."


def excluded(suite: SuiteResult) -> list[str]:
    """By reason: `left out by --only: redis-hang, redis-kill`."""
    found: dict[str, list[str]] = {}
    for one in suite.excluded:
        found.setdefault(text.visible(one.why, 200), []).append(_name(one.name))
    return [f"{why or 'no reason given'}: {', '.join(left[:60])}{_more(len(left) - 60)}" for why, left in found.items()]


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def facts(suite: SuiteResult, attempts: int) -> list[tuple[str, str]]:
    rate = f"{text.rps(suite.rate)} requests per second, " if suite.rate is not None else ""
    found = [
        ("Suite", f"{suite.name}{f' (profile {suite.profile})' if suite.profile else ' (suite file)'}"),
        ("Carried out", f"{text.when(suite.started)}, {text.seconds(suite.seconds)}, {_n(attempts, 'attempt')}"),
        ("Load", f"{suite.scenario}, {rate}{suite.model} model, scale {suite.scale:g}, hash {suite.load}"),
        ("Target", f"{suite.target_url}, version {suite.target_version or 'unknown'}, {suite.stack} stack"),
        ("Machine", suite.machine or "unknown"),
        ("Harness", suite.harness or "unknown"),
        ("Seed", str(suite.seed)[:40]),
        ("Locustfile", f"sha256 {suite.locustfile_sha256}"),
    ]
    return [(name, text.visible(said, 300)) for name, said in found if said]


def names(found: Sequence[str]) -> str:
    """`GET /a, GET /b and 4 more`."""
    shown = [_name(name) for name in found[:NAMES]]
    if len(found) > NAMES:
        return f"{', '.join(shown)} and {len(found) - NAMES} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def _name(name: str) -> str:
    return text.excerpt(name, 80)


def _ended(said: str) -> str:
    return f"{text.visible(said, 300).rstrip('.')}."


def _n(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _s(found: Sequence[str], one: str, many: str) -> str:
    return one if len(found) == 1 else many
