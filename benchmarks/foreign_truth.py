"""What the prober of foreign_services.py saw, and whether what the harness said of the same minutes is so.

Works on files only: the prober's log and the run directory's history.jsonl and result.json, as a stranger would read
them. Times are seconds since the run's t0, which the history gives on the clock that both used.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AGREE_S = 0.5
"""How far apart two statements about one instant may be."""
LOOK_S = 6.5
"""A look after the load is made each second, and at a service that does not answer it takes 5 s."""
JOIN_S = 1.5
"""Bad requests of one name this close are one stretch."""
STRETCH = 3
"""Fewer bad requests are a stray, not a stretch."""
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}


@dataclass(frozen=True)
class Limits:
    """The run's targets: a failed share, the p95 of good requests in seconds, and recovery in seconds."""

    failed: float
    slow_s: float
    recovery_s: float


@dataclass(frozen=True)
class Seen:
    """One request of the prober. due: since t0. took, from then: until the answer or the failure."""

    name: str
    due: float
    took: float
    ok: bool
    why: str
    late: float
    """How late the prober itself was, which is part of `took`."""

    def bad(self, limits: Limits) -> bool:
        return not self.ok or self.took > limits.slow_s


@dataclass(frozen=True)
class Share:
    """Of one name in one span. waits: median and longest seconds that callers were kept, good answers or not."""

    requests: int
    failed: float
    slow: float
    median: float
    longest: float
    whys: str
    until_failure: float = 0.0
    """Median of the failed ones."""

    @property
    def bad(self) -> float:
        return self.failed + self.slow

    def __str__(self) -> str:
        if not self.requests:
            return "none due"
        slow = f", {percent(self.slow)} slow" if self.slow else ""
        return f"{percent(self.failed)} failed{slow}, waits {self.median:.2g}/{self.longest:.2g} s{self.whys}"


@dataclass
class Facts:
    """injected, undo: when the statement was sent and answered. phase: the fault phase, which ends with the verified
    undo. during: until the undo was sent; whole: in all of that phase; after: behind the last stretch. stretches: of
    bad requests by name, from the injection on. onset, end: first and last bad request of any stretch, None without.
    """

    injected: tuple[float, float]
    undo: tuple[float, float]
    load_end: float
    phase: tuple[float, float] = (0.0, 0.0)
    whole: dict[str, Share] = field(default_factory=dict)
    during: dict[str, Share] = field(default_factory=dict)
    after: dict[str, Share] = field(default_factory=dict)
    stretches: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    strays: int = 0
    last_bad: float = 0.0
    """The last bad request of a stretch, also after the load had ended."""
    loaded: float = 0.0
    """The end of load, also of one that was followed by no phase."""
    after_load: float | None = None
    """When the last look after the load was made."""
    late: float = 0.0
    """The prober's own lateness, 99th percentile."""

    @property
    def onset(self) -> float | None:
        return min((s[0][0] for s in self.stretches.values() if s), default=None)

    @property
    def end(self) -> float | None:
        return max((s[-1][1] for s in self.stretches.values() if s), default=None)


def percent(value: float) -> str:
    return f"{value:.0%}" if value in (0, 1) or value >= 0.1 else f"{value:.1%}"


def read_log(path: Path, zero: float) -> list[Seen]:
    rows = []
    for line in path.read_text("utf-8").splitlines():
        one = json.loads(line)
        rows.append(
            Seen(
                one["name"],
                one["due"] - zero,
                one["end"] - one["due"],
                one["ok"],
                one["why"],
                one["begun"] - one["due"],
            )
        )
    return sorted(rows, key=lambda row: row.due)


def read_history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]


def share(rows: Sequence[Seen], limits: Limits) -> Share:
    if not rows:
        return Share(0, 0.0, 0.0, 0.0, 0.0, "")
    waits = sorted(row.took for row in rows)
    whys = Counter(row.why for row in rows if not row.ok)
    return Share(
        len(rows),
        sum(not row.ok for row in rows) / len(rows),
        sum(row.ok and row.bad(limits) for row in rows) / len(rows),
        waits[len(waits) // 2],
        waits[-1],
        f" ({', '.join(f'{why} x{n}' for why, n in whys.most_common(3))})" if whys else "",
        statistics.median(kept) if (kept := [row.took for row in rows if not row.ok]) else 0.0,
    )


def stretches(rows: Sequence[Seen], limits: Limits) -> tuple[list[tuple[float, float]], int]:
    """Stretches of bad requests of one name, first due to last due, and how many bad ones are in none."""
    found: list[list[float]] = []
    for row in rows:
        if row.bad(limits):
            if found and row.due - found[-1][-1] <= JOIN_S:
                found[-1].append(row.due)
            else:
                found.append([row.due])
    strays = sum(len(one) for one in found if len(one) < STRETCH)
    return [(one[0], one[-1]) for one in found if len(one) >= STRETCH], strays


def facts(rows: Sequence[Seen], history: Sequence[dict[str, Any]], limits: Limits) -> Facts:
    """Raises LookupError when nothing was injected or undone."""

    def event(kind: str) -> dict[str, Any]:
        return next(one for one in history if one["event"] == kind)

    try:
        injected, undone = event("fault_injected"), event("undone")
    except StopIteration:
        raise LookupError("nothing was injected, or nothing undone") from None
    loaded = next((one["end_s"] for one in history if one["event"] == "load_ended"), rows[-1].due)
    load_end = max((one["start_s"] for one in history if one.get("phase") == "tail"), default=loaded)
    found = Facts((injected["sent_s"], injected["at"]), (undone["sent_s"], undone["at"]), load_end)
    starts = [(one["phase"], one["start_s"]) for one in history if one["event"] == "phase"]
    begun = next((start for name, start in starts if name == "fault"), found.injected[0])
    found.phase = begun, min((start for _, start in starts if start > begun), default=load_end)
    for name in dict.fromkeys(row.name for row in rows):
        mine = [row for row in rows if row.name == name and row.due <= load_end]
        found.during[name] = share([r for r in mine if found.injected[1] <= r.due < found.undo[0]], limits)
        found.whole[name] = share([r for r in mine if found.phase[0] <= r.due < found.phase[1]], limits)
        found.stretches[name], strays = stretches([r for r in mine if r.due >= found.injected[0]], limits)
        found.strays += strays
        later, _ = stretches([row for row in rows if row.name == name], limits)
        found.last_bad = max([found.last_bad, *(end for _, end in later)])
    found.loaded = loaded
    found.after_load = next((loaded + one["seconds"] for one in history if one["event"] == "after_load"), None)
    found.late = sorted(row.late for row in rows)[int(len(rows) * 0.99)]
    over = max(found.undo[1], found.end or 0.0)
    for name in found.during:
        found.after[name] = share([r for r in rows if r.name == name and over < r.due <= load_end], limits)
    return found


@dataclass(frozen=True)
class Check:
    """One statement held against what was seen. right: None = cannot be told here."""

    what: str
    right: bool | None
    why: str


def checks(said: dict[str, Any], exit_code: int, found: Facts, limits: Limits) -> list[Check]:
    """said: result.json."""
    verdict, recovery, impact = said["verdict"], said["recovery"] or {}, said["impact"] or {}
    done = [Check("exit code", exit_code == EXIT_CODES[verdict] == said["exit_code"], f"{verdict}, {exit_code}")]
    return [
        *done,
        _verdict(verdict, recovery, found, limits),
        *_instants(recovery, impact, found),
        *_names(said, found),
        *_after_load(said, found),
    ]


def _verdict(verdict: str, recovery: dict[str, Any], found: Facts, limits: Limits) -> Check:
    failed = _mean(found.during, lambda one: one.failed)
    good = _mean(found.during, lambda one: 1 - one.failed)
    slow = _mean(found.during, lambda one: one.slow) / good if good else 0.0
    after = _mean(found.after, lambda one: one.failed)
    late = (found.end or 0.0) - found.undo[1]
    seen = f"during {percent(failed)} failed, {percent(slow)} of the good slow; after {percent(after)} failed"
    broken = failed > 2 * limits.failed or slow > 0.1 or late > limits.recovery_s + AGREE_S
    held = failed < limits.failed / 2 and slow < 0.03 and late < limits.recovery_s - AGREE_S
    right = None if verdict == "inconclusive" else verdict == "fail" if broken else verdict == "pass" if held else None
    return Check("verdict", right, seen)


def _instants(recovery: dict[str, Any], impact: dict[str, Any], found: Facts) -> list[Check]:
    start, onset = impact.get("start_s"), found.onset
    if start is None or onset is None:
        done = [Check("onset", start is onset, f"said {_at(start)}, seen {_at(onset)}")]
    else:
        done = [Check("onset", abs(start - onset) <= AGREE_S, f"said {_at(start)}, seen {_at(onset)}")]
    zero, outcome = recovery.get("zero_s"), recovery.get("outcome")
    if zero is None:
        return [*done, Check("end", None, "no zero")]
    end = max(found.end or 0.0, found.injected[1])
    match outcome:
        case "recovered":
            at = zero + recovery["seconds"]
            low, high = (zero + recovery[key] for key in ("lower_s", "upper_s"))
            # Counted from the undo: 0 s is said of what was well earlier, too.
            right = end <= high + AGREE_S if recovery["lower_s"] == 0 else low - AGREE_S <= end <= high + AGREE_S
            right = right or abs(at - end) <= AGREE_S
            done.append(Check("end", right, f"said {at:.1f} ({low:.1f} to {high:.1f}), seen {_at(found.end)}"))
        case "no_impact":
            done.append(Check("end", end <= zero + AGREE_S, f"said none after zero {zero:.1f}, seen {_at(found.end)}"))
        case "not_recovered":
            limit = zero + recovery["lower_s"]
            done.append(Check("end", end >= limit - AGREE_S, f"said later than {limit:.1f}, seen {_at(found.end)}"))
        case _:
            done.append(Check("end", None, f"{outcome}: {recovery.get('why')}; seen {_at(found.end)}"))
    return done


def _after_load(said: dict[str, Any], found: Facts) -> list[Check]:
    if found.after_load is None:
        return []
    well = max(found.last_bad, found.loaded)
    seen = f"{found.after_load:.1f}, seen {_at(found.last_bad)}"
    if said["after_load"]["outcome"] != "as_in_baseline":
        return [Check("after the load", found.last_bad >= found.after_load - LOOK_S, f"said not well at {seen}")]
    right = found.last_bad - AGREE_S <= found.after_load <= well + LOOK_S
    return [Check("after the load", right, f"said well at {seen}")]


def _names(said: dict[str, Any], found: Facts) -> list[Check]:
    """Names called hurt, and their failed share during the fault."""
    hurt = {name for name, spans in found.stretches.items() if spans}
    named = set((said["impact"] or {}).get("by_name", {}))
    # Empty also where nobody filled it in.
    done = [Check("names", hurt == named if named or not hurt else None, f"said {_list(named)}, seen {_list(hurt)}")]
    for row in said["requests"]:
        seen = found.whole.get(row["name"])
        if row["phase"] != "fault" or seen is None or row["error_rate"] is None:
            continue
        right = abs(row["error_rate"] - seen.failed) <= 0.1
        why = f"said {percent(row['error_rate'])}, seen {percent(seen.failed)}"
        done.append(Check(f"failed {row['name']}", right, why))
        if row.get("failed_p50_ms") is not None and seen.failed > 0.1:
            told = row["failed_p50_ms"] / 1000
            right = abs(told - seen.until_failure) <= max(0.25, seen.until_failure / 4)
            why = f"median until failure said {told:.2f} s, seen {seen.until_failure:.2f} s"
            done.append(Check(f"wait {row['name']}", right, why))
    return done


def _mean(shares: dict[str, Share], of: Any) -> float:
    """Each name is a third of the load, as it is of the prober's requests."""
    values = [of(one) for one in shares.values() if one.requests]
    return float(sum(values) / len(values)) if values else 0.0


def _at(moment: float | None) -> str:
    return "none" if moment is None else f"{moment:.2f}"


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
