"""TARGET ASSESSMENT: one line a target, its worst judged phase named. Shared by every report."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.model.records.metrics import METRICS, Origin
from harness.model.records.result import Outcome, RecoveryResult, TargetResult
from harness.model.records.targets import Target
from harness.model.target_grammar import format_limit
from harness.report.sentences import text

_ORDER: dict[Outcome, int] = {"broken": 0, "undecided": 1, "not_judged": 2, "held": 3}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One target over its phases.

    label: `P95 Latency Target`. limit: `<200ms`, `>=95% of 200`. observed: of the worst phase, formatted.
    results: every phase's judgement, in the order given; worst is one of them. of: the one request name it speaks of.
    """

    label: str
    limit: str
    outcome: Outcome
    primary: bool
    observed: str
    worst: TargetResult
    results: tuple[TargetResult, ...]
    of: str | None = None

    @property
    def name(self) -> str:
        return f"{self.label} ({self.limit})" if self.limit else self.label

    @property
    def mark(self) -> str:
        """The sign and the word: PASS, FAIL, WARN (a broken secondary target), UNDECIDED, NOT JUDGED."""
        return mark(self.outcome, self.primary)

    @property
    def detail(self) -> str:
        """What stands behind the word: `(fault: 12.4%)`; of a target that held only the number is in brackets."""
        phase = self.worst.phase
        if self.outcome == "held":
            where = f", worst in {phase}" if phase and len(self.results) > 1 else ""
            return f"({self.observed}){where}"
        shown = f"({phase}: {self.observed})" if phase else f"({self.observed})"
        return f"{shown} {self.worst.why}" if self.worst.why and self.outcome != "broken" else shown


def mark(outcome: Outcome, primary: bool) -> str:
    match outcome:
        case "held":
            return "✅ PASS"
        case "broken":
            return "❌ FAIL" if primary else "🟡 WARN"
        case "undecided":
            return "❔ UNDECIDED"
        case "not_judged":
            return "➖ NOT JUDGED"


def assess(
    targets: Sequence[Target],
    results: Sequence[TargetResult],
    *,
    rate: float | None = None,
    recovery: RecoveryResult | None = None,
) -> tuple[Line, ...]:
    """One line a metric, request name and limit; primary targets first, otherwise in the order given.

    targets: as planned, matched to the results by their text. rate: arrivals per second of the plan, for
    limits "of plan". recovery: for the interval behind the recovery target.
    """
    by_text = {target.text: target for target in targets}
    groups: dict[tuple[object, ...], list[tuple[TargetResult, Target | None]]] = {}
    for found in results:
        target = by_text.get(found.target)
        key: tuple[object, ...]
        if target is None:
            key = (found.target, found.primary)
        else:
            key = (found.metric, target.name, target.op, target.limits, found.primary)
        groups.setdefault(key, []).append((found, target))
    lines = [_line(members, rate, recovery) for members in groups.values()]
    return tuple(sorted(lines, key=lambda line: not line.primary))


def _line(
    members: list[tuple[TargetResult, Target | None]], rate: float | None, recovery: RecoveryResult | None
) -> Line:
    target = members[0][1]
    worst = min(
        (found for found, _ in members),
        key=lambda found: (_ORDER[found.outcome], *(-part for part in _badness(found, target))),
    )
    return Line(
        label=_label(worst.metric, target.name if target else None),
        # Of a target that is not in the plan its whole text, unless that is no more than the metric's name.
        limit=_limit(target, worst, rate)
        if target
        else ("" if worst.target == worst.metric else text.visible(worst.target, 80)),
        outcome=worst.outcome,
        primary=worst.primary,
        observed=_observed(worst, target, recovery),
        worst=worst,
        results=tuple(found for found, _ in members),
        of=target.name if target else None,
    )


def _badness(found: TargetResult, target: Target | None) -> tuple[float, float]:
    """Against its limit; where that is the same, for limits may be other ones, by what is shown."""
    if found.observed is None:
        return (float("-inf"), 0.0)
    upwards = target is not None and target.op in (">", ">=")
    shown = -found.observed if upwards else found.observed
    return (round(shown / (found.limit or 1.0), 6), shown)


def _label(metric: str, name: str | None) -> str:
    if metric in METRICS:
        words = METRICS[metric].label
    elif metric.startswith("p") and metric[1:].replace(".", "").isdigit():
        words = f"{metric.upper()} Latency"
    else:
        words = text.visible(metric, 40)
    return f"{words} Target" + (f" {{{text.visible(name, 40)}}}" if name else "")


def _limit(target: Target, found: TargetResult, rate: float | None) -> str:
    if target.plus or target.other is not None:
        resolved = f" = {text.in_unit(found.limit, target.unit)}" if found.limit is not None else ""
        return f"{target.op}{format_limit(target)}{resolved}"
    match target.relative:
        case "plan":
            share = f"{target.op}{target.value * 100:.6g}% of "
            return share + (f"{rate:,g}" if rate is not None else "plan")
        case "baseline":
            upwards = target.op in (">", ">=")
            factor = f"{target.value * 100:.6g}% of baseline" if upwards else f"{target.value:g}x baseline"
            resolved = f" = {text.in_unit(found.limit, target.unit)}" if found.limit is not None else ""
            return f"{target.op}{factor}{resolved}"
        case _:
            return f"{target.op}{text.limit_in_unit(target.value, target.unit)}"


def _observed(found: TargetResult, target: Target | None, recovery: RecoveryResult | None) -> str:
    if found.traits.origin is Origin.RECOVERY and recovery is not None:
        match recovery.outcome:
            case "recovered" if recovery.graded and recovery.upper_s is not None:
                return f"by degrees, {interval(recovery)}"
            case "recovered" if recovery.seconds is not None:
                between = interval(recovery)
                return text.seconds(recovery.seconds) + (f", {between}" if between else "")
            case "no_impact":
                return "0s, targets held from the undo on"
            case "not_recovered":
                lower = recovery.lower_s
                return "not recovered" + (f" after {text.seconds(lower)}" if lower is not None else "")
            case "not_judged" | "undecided" if found.observed is None:
                return "no recovery time"
            case _:
                pass
    return "no data" if found.observed is None else text.in_unit(found.observed, found.traits.unit)


def interval(recovery: RecoveryResult) -> str:
    """`between 1.2s and 1.4s`, empty when there is none."""
    if recovery.lower_s is None or recovery.upper_s is None:
        return ""
    return f"between {text.seconds(recovery.lower_s)} and {text.seconds(recovery.upper_s)}"
