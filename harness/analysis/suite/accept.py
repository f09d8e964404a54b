"""What is written of a suite that somebody accepts: the base, and who owns what is broken in it until when."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import date, timedelta

from msgspec.structs import replace

from harness.analysis.statistics.binomial import BROKEN_BELOW, upper_bound
from harness.analysis.suite.age import day_of, until_of
from harness.analysis.suite.gate import beyond, found_on, is_recovery
from harness.analysis.suite.outcomes import Item, Seen, items
from harness.model.errors import UsageError
from harness.model.records.many_runs.gate import MOST_DAYS, Base, BaseExperiment, Known
from harness.model.records.many_runs.suite import SuiteResult

LONGER = 1.5
"""How much longer than when it was accepted a recovery may take: it varies by itself."""


def accepted(
    suite: SuiteResult,
    *,
    owner: str,
    today: date,
    reason: str = "",
    until: date | None = None,
    ticket: str = "",
    base: Base | None = None,
    known: Sequence[Known] = (),
) -> tuple[Base, tuple[Known, ...]]:
    """The base and the known weaknesses that this suite leaves. base, known: those of before.

    A weakness that is known already, and has neither expired nor changed for the worse, keeps its owner and its last
    day; one that is accepted anew keeps the day since which it is known. An experiment that was not run stays as it
    was. Raises UsageError where something is broken that nobody owns.
    """
    check_until(until, today)
    former = {(one.experiment, one.request, "" if one.request else one.target): one for one in known}
    experiments: dict[str, BaseExperiment] = {}
    weaknesses: list[Known] = []
    missing: list[str] = []
    found_day = day_of(suite.started) or today

    def of_base(one: BaseExperiment, day: str, version: str) -> BaseExperiment:
        """With when and of which version it was found, where that is not what the base says of all."""
        other = version if version != suite.target_version else ""
        return replace(one, day=day if day != found_day.isoformat() else "", target_version=other)

    for one in suite.experiments:
        before = base.experiments.get(one.name) if base is not None else None
        if one.outcome == "not_run" and before is not None and before.definition == one.definition:
            day, version = found_on(base, before) if base is not None else ("", "")
            experiments[one.name] = of_base(before, day, version)
            weaknesses += [known for key, known in former.items() if key[0] == one.name]
            continue
        found = items(one)
        by_state: dict[str, list[str]] = {}
        for (request, _), seen in found.items():
            if request:
                by_state.setdefault(seen.state, []).append(request)
        broken = {item: seen for item, seen in found.items() if seen.state == "broken"}
        shown = one.shown
        outcome = BaseExperiment(
            definition=one.definition,
            outcome=one.outcome,
            held=tuple(sorted(by_state.get("held", ()))),
            broken=tuple(sorted(by_state.get("broken", ()))),
            allowed=tuple(sorted(by_state.get("allowed", ()))),
            unknown=tuple(sorted(by_state.get("unknown", ()))),
            targets=tuple(sorted(target for request, target in broken if not request)),
        )
        day, version = (_iso(shown.started), shown.target_version or "") if shown is not None else ("", "")
        experiments[one.name] = of_base(outcome, day, version)
        for item, seen in broken.items():
            kept = former.get((one.name, *item))
            if kept is not None and until_of(kept) >= today and not _worse(kept, seen):
                weaknesses.append(kept)
            elif until is None or not reason.strip():
                missing.append(f"{one.name}: {item[0] or item[1]}")
            else:
                cell = seen.cell
                weaknesses.append(
                    Known(
                        experiment=one.name,
                        request=item[0],
                        target=item[1] or (cell.target if cell is not None else ""),
                        at_most=_at_most(item, seen),
                        owner=owner,
                        reason=reason,
                        ticket=ticket,
                        since=kept.since if kept is not None else today.isoformat(),
                        until=until.isoformat(),
                    )
                )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(
            f"{missing[0]!r}{more} is broken, and what is broken is accepted for a reason and until a day",
            hint="--reason 'no fallback yet' --until 2027-01-31",
        )
    definitions = "\n".join(f"{name} {one.definition}" for name, one in sorted(experiments.items()))
    new = Base(
        name=suite.name,
        accepted=today.isoformat(),
        by=owner,
        suite=hashlib.sha256(definitions.encode("utf-8", "replace")).hexdigest(),
        load=suite.load,
        harness=suite.harness,
        target_version=suite.target_version,
        day=found_day.isoformat(),
        experiments=dict(sorted(experiments.items())),
    )
    return new, tuple(sorted(weaknesses, key=lambda one: (one.experiment, one.request, one.target)))


def _iso(started: str | None) -> str:
    day = day_of(started)
    return day.isoformat() if day is not None else ""


def check_until(until: date | None, today: date) -> None:
    """Raises UsageError for a day that has passed or is too far ahead."""
    if until is not None and not today <= until <= today + timedelta(days=MOST_DAYS):
        raise UsageError(
            f"until {until.isoformat()}: a weakness is known for {MOST_DAYS} days at most",
            hint=f"from {today.isoformat()} to {(today + timedelta(days=MOST_DAYS)).isoformat()}",
        )


def _at_most(item: Item, seen: Seen) -> float | None:
    """The worst of its attempts, and what chance may add: a whole percentage, or seconds."""
    if item[0]:
        cells = [cell for _, cell in seen.attempts if cell is not None and cell.outcome == "broken" and cell.n]
        shares = [upper_bound(cell.bad, cell.n, BROKEN_BELOW) for cell in cells]
        return max((math.ceil(round(share * 100, 6)) / 100 for share in shares), default=None)
    if not is_recovery(item[1]):
        return None
    took = [attempt.recovery_s for attempt, _ in seen.attempts if item[1] in attempt.broken_targets]
    known = [seconds for seconds in took if seconds is not None]
    return float(math.ceil(LONGER * max(known))) if known and len(known) == len(took) else None


def _worse(known: Known, seen: Seen) -> bool:
    return 2 * sum(1 for attempt, cell in seen.attempts if beyond(known, attempt, cell)) > len(seen.attempts)
