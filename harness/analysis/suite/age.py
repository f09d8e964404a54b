"""How old it is what is known: outcomes that no longer count as what is, and weaknesses that somebody has owned for a
while. An age that is not on record makes nothing stale."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from harness.model.errors import UsageError
from harness.model.records.many_runs.gate import Known, Stale
from harness.model.records.many_runs.suite import SuiteResult

STALE_DAYS = 30
"""What was found longer ago than this is no longer taken for what is."""
NAMED = 5


def day_of(iso: str | None) -> date | None:
    """Of a time of day as it is on record; None where it is none."""
    try:
        return date.fromisoformat((iso or "")[:10])
    except ValueError:
        return None


def why_stale(day: date | None, version: str | None, *, today: date, now: str | None) -> str:
    """Why what was found on that day, of that version of the target, is stale; "" where it is not. now: its version."""
    if day is not None and (today - day).days > STALE_DAYS:
        return f"{(today - day).days} days old"
    if version and now and version != now:
        return f"of target version {version[:60]}, and it is {now[:60]} now"
    return ""


def stale(suite: SuiteResult, today: date) -> dict[str, str]:
    """Of its experiments whose outcome is stale: why. One of a suite that was resumed may be older than the rest."""
    found = {}
    for one in suite.experiments:
        if (shown := one.shown) is not None:
            day = day_of(shown.started) or day_of(suite.started)
            found[one.name] = why_stale(day, shown.target_version, today=today, now=suite.target_version)
    return {name: why for name, why in found.items() if why}


def last_day(suite: SuiteResult) -> date | None:
    """On which it was carried out, or its last part."""
    every = [suite.started, *(attempt.started for one in suite.experiments for attempt in one.attempts)]
    return max((day for iso in every if (day := day_of(iso)) is not None), default=None)


def by_reason(found: Mapping[str, str]) -> tuple[Stale, ...]:
    """found: why, by experiment."""
    reasons = dict.fromkeys(found.values())
    return tuple(Stale(why=why, experiments=tuple(name for name in found if found[name] == why)) for why in reasons)


def stale_words(one: Stale) -> str:
    """`41 days old: redis-down, db-down and 3 more`. Not yet escaped."""
    more = len(one.experiments) - NAMED
    named = ", ".join(name[:60] for name in one.experiments[:NAMED])
    return f"{one.why}: {named}{f' and {more} more' if more > 0 else ''}"


def stale_lines(suite: SuiteResult, today: date) -> list[str]:
    """What of a suite is no longer taken for what is, by reason; nothing where nothing is. Not yet escaped."""
    return [f"Stale, as of {today.isoformat()}: {stale_words(one)}." for one in by_reason(stale(suite, today))]


def owned_words(known: Known, day: date | None) -> str:
    """`known for 40 days, owner Ada, until 12 January 2027, 43 days left`, as of that day. Not yet escaped."""
    since, last = day_of(known.since), day_of(known.until)
    said = (
        [f"known for {days_words((day - since).days)}"]
        if since is not None and day is not None and day >= since
        else []
    )
    said.append(f"owner {known.owner[:80]}")
    if last is None:
        return ", ".join([*said, f"until {known.until[:20]}"])
    shown = f"{last.day} {last:%B %Y}"
    if day is None:
        said.append(f"until {shown}")
    elif last < day:
        said += [f"expired on {shown}", f"{days_words((day - last).days)} ago"]
    else:
        said += [f"until {shown}", f"{days_words((last - day).days)} left"]
    return ", ".join(said)


def until_of(known: Known) -> date:
    """Its last day. Raises UsageError for what is none: a file that somebody may have changed by hand."""
    return _date("until", known.until)


def since_of(known: Known) -> date | None:
    """The day since which it is known, where that is on record. Raises UsageError as until_of does."""
    return _date("since", known.since) if known.since else None


def _date(field: str, said: str) -> date:
    try:
        return date.fromisoformat(said)
    except ValueError:
        raise UsageError(f"{field} = {said[:40]!r} is no date", hint=f'for example {field} = "2027-01-31"') from None


def days_words(count: int) -> str:
    return f"{count:,} day{'' if count == 1 else 's'}"
