"""What was promised and lost, and what a fault left behind in the dependencies: findings and their sentences."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.records.plan import Plan
from harness.model.records.result import Result, SignatureResult
from harness.report.findings.finding import Finding
from harness.report.sentences import text


def acknowledged_sentence(result: Result) -> str | None:
    """What became of the acknowledged writes; None where none was noted."""
    told = result.acknowledged
    if told is None:
        return None
    checked = told.there + told.lost
    if told.lost:
        ends = f"{told.lost:,} of them are gone"
    else:
        ends = "all of them are there" if checked else "nothing is known of them"
    said = f"Acknowledged writes: {told.noted:,} noted, {checked:,} read back after the load, {ends}"
    if told.unchecked:
        said += f"; {told.unchecked:,} could not be checked" + (f" ({text.visible(told.why, 200)})" if told.why else "")
    left = told.noted - told.chosen
    return said + (f"; {left:,} were not looked for." if left > 0 else ".")


def lost(plan: Plan, result: Result) -> Iterator[Finding]:
    told = result.acknowledged
    if told is None or not told.lost:
        return
    shown = ", ".join(text.visible(one, 80) for one in told.examples[:3])
    yield Finding(
        key="lost-writes",
        title="Acknowledged writes were lost",
        seen=f"{told.lost:,} of {told.there + told.lost:,} writes that were read back are not there, such as {shown}.",
        advice="The caller was told that its write is safe. Acknowledge after the commit, or put it into something "
        "that survives (an outbox, a log) before answering; when that is full, refuse. lost.jsonl in the run directory "
        "has every id: follow one through the code that runs while the dependency is away.",
    )


def signature(plan: Plan, result: Result) -> Iterator[Finding]:
    for one in result.signatures:
        if one.found:
            title, advice = _WORDS[one.kind]
            name = text.visible(one.dependency, 40)
            yield Finding(
                key=one.kind.replace("_", "-"), title=title.format(name=name), seen=_seen(one, name), advice=advice
            )


def _seen(one: SignatureResult, name: str) -> str:
    match one.kind:
        case "retry_amplification":
            return (
                f"A request cost {name} {one.observed:.1f} calls while the fault was on, {one.baseline:.1f} in "
                f"baseline (limit {one.limit:.1f})."
            )
        case "reconnect_storm":
            return (
                f"{name} saw up to {one.observed:,.0f} new connections a second after the undo, {one.baseline:,.1f} in "
                f"baseline; {one.extra or 0:,.0f} more than usual in all."
            )
        case "cold_cache":
            times = f", and the database did {one.extra:.1f} times its usual work until then" if one.extra else ""
            fell = f"{name}'s hit rate fell from {one.baseline:.0%} to {one.observed:.0%}"
            return f"{fell} and {_until(one, 'back')}{times}."
        case "consumer_lag":
            return (
                f"Up to {one.observed:,.0f} messages were waiting, {one.baseline:,.0f} in baseline; consumers "
                f"{_until(one, 'caught up')}."
            )


def _until(one: SignatureResult, what: str) -> str:
    if one.seconds is None:
        return f"had not {what} when the run ended" if what == "caught up" else "was not back when the run ended"
    if what == "back":
        return f"was back {text.seconds(one.seconds)} after the undo"
    return f"had {what} {text.seconds(one.seconds)} after the undo"


_WORDS = {
    "retry_amplification": (
        "Calls to {name} multiply while it is in trouble",
        "A dependency that is slow gets more work, not less, and stays slow. Either a call that failed is made again, "
        "or what came of it was not kept (a cache), so that each request asks anew. Retry once at most and in one "
        "layer only, with a growing, jittered pause and a budget (say 10 % of the calls); a circuit breaker ends it.",
    ),
    "reconnect_storm": (
        "Everybody reconnects to {name} at once",
        "Open connections one at a time, or with jitter, up to the pool's size; let requests wait for a pooled one "
        "instead of opening their own; check that a failed call does not throw a good connection away.",
    ),
    "cold_cache": (
        "{name} came back cold, and the database paid for it",
        "Load each missing key once, however many ask for it (request coalescing); bound how many loads run at a time; "
        "serve the stale value meanwhile; spread expiry with jitter; warm popular keys up after a restart.",
    ),
    "consumer_lag": (
        "Consumers of {name} fell behind and stayed there",
        "Check how long consumers take to rejoin (session time-out, back-off), then their spare capacity: a backlog "
        "drains only as fast as they are faster than the producers. More partitions and consumers, larger batches.",
    ),
}
