"""The score of a suite over time, over the experiments that both ends have in common, and what has become of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import msgspec

from harness.analysis.suite.age import by_reason, last_day, owned_words, stale, until_of
from harness.history.reading import Found, counts_of, versions
from harness.history.records import ScoreTrend, SuitePoint, Unread, Weakness
from harness.model.errors import UsageError
from harness.model.records.many_runs.gate import Known
from harness.model.records.many_runs.suite import NOT_CHOSEN, ExperimentOutcome, ExperimentResult, SuiteResult

DECIDED = ("held", "broken")


class _Suite(msgspec.Struct, frozen=True, kw_only=True):
    found: Found
    result: SuiteResult
    experiments: dict[str, ExperimentResult]


def score_trend(found: Sequence[Found], known: Sequence[Known], today: date, shown: int) -> ScoreTrend:
    """found: newest first. The newest suite says which others are of its kind; the last `shown` are kept (0: all)."""
    every = [_of(one, one.suite) for one in found if one.suite is not None][::-1]
    if not every:
        raise UsageError("no suite matches, so there is no score", hint="harness history lists what there is")
    newest = every[-1]
    kind = _kind(newest)
    same = [one for one in every if _kind(one) == kind]
    line = same[-shown:] if shown else same
    oldest = line[0]
    # What was defined otherwise is another question under the same name.
    common = {
        name: one.weight
        for name, one in newest.experiments.items()
        if name in oldest.experiments and oldest.experiments[name].definition == one.definition
    }
    before, after = _outcomes(oldest, common, newest), _outcomes(newest, common, newest)
    points = [
        _point(one, common, newest, previous, today if one is newest else last_day(one.result) or today)
        for one, previous in zip(line, [None, *line], strict=False)
    ]
    cells = [cell for one in newest.result.experiments if one.shown is not None for cell in one.shown.cells]
    weaknesses = [name for name, one in newest.experiments.items() if one.outcome == "broken"]
    return ScoreTrend(
        of=f"suite {newest.result.name}, {newest.result.stack} stack",
        common=len(common),
        points=tuple(points),
        fixed=tuple(name for name in common if (before[name], after[name]) == ("broken", "held")),
        newly_broken=tuple(name for name in common if (before[name], after[name]) == ("held", "broken")),
        undecided=tuple(name for name in common if before[name] in DECIDED and after[name] not in DECIDED),
        weaknesses=tuple(_weakness(name, line, known, today) for name in weaknesses),
        holds_again=tuple(
            dict.fromkeys(
                one.experiment
                for one in known
                if one.experiment in newest.experiments and newest.experiments[one.experiment].outcome == "held"
            )
        ),
        experiments=len(newest.experiments),
        carried_out=sum(one.outcome != "not_run" for one in newest.experiments.values()),
        decided=sum(one.outcome in DECIDED for one in newest.experiments.values()),
        cells=len(cells),
        decided_cells=sum(cell.outcome in DECIDED for cell in cells),
        days_old=_days(newest, today),
        stale=by_reason(stale(newest.result, today)),
        excluded=tuple(one.name for one in newest.result.excluded),
        left_out=tuple(
            Unread(
                directory=one.found.entry.directory,
                why="differs in " + ", ".join(key for key, value in kind.items() if _kind(one)[key] != value),
            )
            for one in every
            if _kind(one) != kind
        ),
    )


def _of(found: Found, result: SuiteResult) -> _Suite:
    return _Suite(found=found, result=result, experiments={one.name: one for one in result.experiments})


def _day(suite: _Suite) -> date:
    return datetime.fromtimestamp(suite.found.at, UTC).date()


def _days(suite: _Suite, today: date) -> int:
    return max((today - _day(suite)).days, 0)


def _kind(suite: _Suite) -> dict[str, str]:
    return {"suite": suite.result.name, "stack": suite.result.stack}


def _outcomes(suite: _Suite, common: Mapping[str, float], newest: _Suite) -> dict[str, ExperimentOutcome]:
    """Of the common experiments. One that is missing in between, or was another one then, was not run."""
    found: dict[str, ExperimentOutcome] = {}
    for name in common:
        one = suite.experiments.get(name)
        same = one is not None and one.definition == newest.experiments[name].definition
        found[name] = one.outcome if one is not None and same else "not_run"
    return found


def _point(
    suite: _Suite, common: Mapping[str, float], newest: _Suite, previous: _Suite | None, day: date
) -> SuitePoint:
    """As of that day: what held and is stale by then is unknown, what was broken stays so. That widens the interval
    and raises neither end."""
    outcomes = _outcomes(suite, common, newest)
    old = [name for name in stale(suite.result, day) if name in outcomes]
    outcomes |= {name: "unknown" for name in old if outcomes[name] == "held"}
    weight: dict[str, float] = defaultdict(float)
    for name, outcome in outcomes.items():
        weight[outcome] += common[name]
    total = sum(weight.values())
    now, then = suite.experiments, previous.experiments if previous is not None else suite.experiments
    not_chosen = {one.name for one in suite.result.excluded if one.why == NOT_CHOSEN}
    return SuitePoint(
        directory=suite.found.entry.directory,
        started=suite.found.entry.started,
        counts=counts_of(outcomes.values()),
        low=100 * weight["held"] / total if total else 0.0,
        high=100 * (total - weight["broken"]) / total if total else 100.0,
        versions=versions(suite.found.entry),
        added=tuple(name for name in now if name not in then),
        removed=tuple(name for name in then if name not in now and name not in not_chosen),
        changed=tuple(name for name in now if name in then and now[name].definition != then[name].definition),
        stale=len(old),
        load_changed=previous is not None and previous.result.load != suite.result.load,
    )


def _weakness(name: str, line: Sequence[_Suite], known: Sequence[Known], today: date) -> Weakness:
    """Since when: back over the suites in which it did not hold, as far as it was the same experiment."""
    definition = line[-1].experiments[name].definition
    since, at_least = line[-1], True
    for suite in reversed(line):
        one = suite.experiments.get(name)
        if one is None:
            continue
        if one.definition != definition or one.outcome == "held":
            at_least = False
            break
        if one.outcome == "broken":
            since = suite
    owned = next((one for one in known if one.experiment == name), None)
    return Weakness(
        experiment=name,
        since=_day(since).isoformat(),
        days=_days(since, today),
        at_least=at_least,
        owner=owned.owner if owned else "",
        reason=owned.reason if owned else "",
        ticket=owned.ticket if owned else "",
        until=owned.until if owned else "",
        expired=owned is not None and until_of(owned) < today,
        known_since=owned.since if owned else "",
        owned=owned_words(owned, today) if owned else "",
    )
