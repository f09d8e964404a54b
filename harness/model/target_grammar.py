"""The grammar of targets, the default targets, and how the two are put together.

    target   = [ "~" ] [ phase ":" ] metric [ "{" request-name "}" ] operator value
    phase    = "baseline" | "fault" | "after"
    metric   = a name of METRICS (records/metrics.py), for example p95 | signal
    signal   = a Prometheus name: letters, digits, "_" and ":", for example cache_hit_rate
    operator = "<" | "<=" | ">" | ">="
    value    = limit | "max(" limit "," limit ")"                         max: for < and <=
    limit    = absolute | percent "of" ( "plan" | "baseline" ) | number "x" ( "plan" | "baseline" )
             | "baseline +" absolute
    absolute = by the unit of the metric:
               duration      ms, s          200ms  1.5s  1m30s
             | percent       proportion     1%
             | percent "/h"  per_h          10%/h
             | number        per_s (also 100/s), number (also percent)   190

    p95 < 200ms                          in every judged phase
    fault: error_rate <= 5%              in the fault phase only
    after: p99{POST /api/v1/predict} < 1s   one request name
    rps >= 95% of plan                   arrivals that got a reply, of those scheduled
    p95 < 2x baseline                    relative to this run's own baseline (fault and after)
    p95 < max(1.3x baseline, baseline + 50ms)   whichever is larger: it holds where either side does
    detect{ServiceDown} < 60s            an alert by its name: for detect, which needs one
    ~cpu < 80%                           "~": secondary, a warning and not a verdict

Operators are literal: < and <= differ. A target without a phase is expanded to one per judged phase; a metric of the
whole run takes none. "of plan" is for rps, and only the open model has a plan.
A request name may hold any character, braces included: it ends at the last "}" before an operator.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import get_args

import msgspec

from harness.model import units
from harness.model.errors import UsageError
from harness.model.records.alerts import MAX_NAME
from harness.model.records.metrics import ALLOWED_OVER, METRICS, Unit, metric_traits
from harness.model.records.targets import JudgedPhase, Limit, Op, Target

JUDGED_PHASES: tuple[JudgedPhase, ...] = get_args(JudgedPhase)

_TARGET = re.compile(
    r"""\s*(?P<soft>~)?\s*
        (?:(?P<phase>[A-Za-z_]+)\s*:(?!:)\s*)?
        (?P<metric>[A-Za-z_][A-Za-z0-9_.:]*)\s*
        (?:\{(?P<name>.*)\})?\s*
        (?P<op><=|>=|<|>)
        (?P<value>[^<>=].*)\Z""",
    re.VERBOSE | re.DOTALL,
)
_OF = re.compile(r"(?P<number>\S+?)\s*(?P<how>%\s*of|x(?:\s+of)?)\s+(?P<base>\w+)", re.IGNORECASE)
_MAX = re.compile(r"max\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_PLUS = re.compile(r"baseline\s*\+\s*(\S.*)", re.IGNORECASE | re.DOTALL)
_HINT = "a target reads [PHASE:] METRIC[{REQUEST NAME}] OP VALUE, for example `p95 < 200ms` or `fault: error_rate < 5%`"


def parse_expression(text: str) -> Target:
    """One target as written; `phase` is None where none was written. Raises UsageError with one line."""
    match = _TARGET.match(text)
    if match is None:
        raise UsageError(f"target {text!r} does not parse: {_whats_wrong(text)}", hint=_HINT)
    phase = _phase(text, match["phase"])
    metric = _metric(text, match["metric"])
    traits = metric_traits(metric)
    name = match["name"]
    if name is not None and not name.strip():
        raise UsageError(f"target {text!r}: the name between the braces is empty")
    if traits.of_alert:
        name = _alert(text, metric, name)
    elif name is not None and not traits.by_name:
        raise UsageError(f"target {text!r}: {metric} is not known by request name; leave out {{{name}}}")
    if phase is not None and traits.whole_run:
        raise UsageError(f"target {text!r}: {metric} is of the whole run; leave out `{phase}:`")
    op: Op = match["op"]  # type: ignore[assignment]  # the pattern admits exactly these four
    if traits.upper and op not in ("<", "<="):
        raise UsageError(f"{metric} in target {text!r} has an upper limit; write < or <=")
    limits = _limits(text, metric, op, match["value"].strip())
    first, other = limits[0], limits[1] if len(limits) > 1 else None
    if all(limit.value == 0 and not limit.plus for limit in limits) and op == "<" and traits.unit != "per_h":
        raise UsageError(f"target {text!r}: nothing is below 0; write `<=` or a larger value")
    if phase == "baseline" and any(limit.relative == "baseline" for limit in limits):
        raise UsageError(f"target {text!r}: the baseline cannot be compared with itself; write `fault:` or `after:`")
    target = Target(
        metric=metric,
        op=op,
        value=first.value,
        unit=traits.unit,
        text="",
        phase=phase,
        name=name,
        relative=first.relative,
        plus=first.plus,
        other=other,
        primary=match["soft"] is None,
        explicit=True,
    )
    return msgspec.structs.replace(target, text=canonical(target))


def check_alert(name: str, where: str) -> None:
    """The name of an alert, as its rule has it. Prometheus takes any text; one that no rule has is a slip."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable() or set("{}") & set(name):
        raise UsageError(
            f"{where}: {name[:60]!r} cannot be the name of an alert",
            hint="as its rule says after `alert:`, without { and }",
        )


def _alert(text: str, metric: str, name: str | None) -> str:
    if name is None:
        raise UsageError(f"{metric} in target {text!r} is of one alert: which?", hint="for example detect{Down} < 60s")
    return name


def parse_targets(text: str) -> tuple[Target, ...]:
    """One expression, expanded to one target per judged phase where it names none (see the grammar above).

    A target relative to baseline is expanded to fault and after only. Raises UsageError with one line.
    """
    return expand(parse_expression(text))


def expand(target: Target) -> tuple[Target, ...]:
    """One target per judged phase, unless it names its phase or belongs to none."""
    if target.phase is not None or target.traits.whole_run:
        return (target,)
    phases = [p for p in JUDGED_PHASES if not (p == "baseline" and target.of_baseline)]
    placed = [msgspec.structs.replace(target, phase=phase) for phase in phases]
    return tuple(msgspec.structs.replace(one, text=canonical(one)) for one in placed)


def defaults(has_rate: bool) -> tuple[Target, ...]:
    """The targets of a run that names none. has_rate: open model; the closed one has no plan to keep up with."""
    found: list[Target] = []
    if has_rate:
        found += [*parse_targets("baseline: rps >= 95% of plan"), *parse_targets("after: rps >= 95% of plan")]
    for text in ("p95 < 200ms", "error_rate < 1%", "recovery < 30s"):
        found += parse_targets(text)
    for text in ("~p50 < 100ms", "~p99 < 500ms", "~violating < 2s", "~cpu < 80%", "~memory_growth < 10%/h"):
        found += parse_targets(text)
    return tuple(msgspec.structs.replace(target, explicit=False) for target in found)


def merge(base: Iterable[Target], explicit: Iterable[Target], strict: bool = False) -> tuple[Target, ...]:
    """`explicit` replaces the targets of `base` with the same phase, metric and name, and adds the others.

    Settings come in layers: call it once a layer. Several in one layer stand beside each other
    (`rps >= 100`, `rps <= 300`). strict: secondary *defaults* become primary; an explicit `~` stays secondary.
    """
    new = tuple(dict.fromkeys(explicit))
    replaced = {(target.phase, target.metric, target.name) for target in new}
    kept = [target for target in base if (target.phase, target.metric, target.name) not in replaced]
    merged = (*kept, *new)
    if not strict:
        return merged
    return tuple(t if t.explicit or t.primary else msgspec.structs.replace(t, primary=True) for t in merged)


def refuse_impossible(targets: Iterable[Target], *, open_model: bool) -> None:
    """Raises UsageError for a target that this load model can never judge."""
    for target in targets:
        if any(limit.relative == "plan" for limit in target.limits) and not open_model:
            raise UsageError(
                f"target `{target.text}`: the closed model has no planned rate; "
                "write a number (`rps >= 190`) or `rps >= 90% of baseline`"
            )


def canonical(target: Target) -> str:
    """The expression in one spelling: `fault: p95{/x} < 200ms`."""
    phase = f"{target.phase}: " if target.phase else ""
    name = f"{{{target.name}}}" if target.name is not None else ""
    return f"{phase}{target.metric}{name} {target.op} {format_limit(target)}"


def format_limit(target: Target) -> str:
    """The right-hand side of a target: "200ms", "95% of plan", "max(2x baseline, 0.5%)"."""
    words = [_limit_text(limit, target) for limit in target.limits]
    return words[0] if len(words) == 1 else f"max({', '.join(words)})"


def _limit_text(limit: Limit, target: Target) -> str:
    if limit.plus:
        return f"baseline + {_exact(limit.value, target.unit)}"
    if limit.relative is None:
        return _exact(limit.value, target.unit)
    if limit.value > 1 or target.metric in ALLOWED_OVER:
        return f"{limit.value:.12g}x {limit.relative}"
    return f"{limit.value * 100:.12g}% of {limit.relative}"


def _exact(value: float, unit: Unit) -> str:
    """A limit in full, so that the expression parses back to the same target."""
    match unit:
        case "ms" if value >= 1000 and value % 10 == 0:
            return f"{value / 1000:.12g}s"
        case "ms":
            return f"{value:.12g}ms"
        case "s":
            return f"{value:.12g}s" if value >= 1 or value == 0 else f"{value * 1000:.12g}ms"
        case "proportion":
            return f"{value * 100:.12g}%"
        case "per_h":
            return f"{value * 100:.12g}%/h"
        case _:
            return f"{value:.0f}" if value == int(value) else f"{value:.12g}"


_SHOWN: dict[Unit, Callable[[float], str]] = {
    "ms": units.format_ms,
    "s": units.format_duration,
    "proportion": units.format_percent,
    "per_h": lambda value: f"{units.format_percent(value)}/h",
    "per_s": units.format_rps,
    "number": "{:g}".format,
}


def format_value(value: float, unit: Unit) -> str:
    """A limit or an observation in its unit, for people."""
    return _SHOWN[unit](value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "p95"?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _whats_wrong(text: str) -> str:
    if not text.strip():
        return "it is empty"
    if re.search(r"==|!=|=<|=>|[^<>]=", text):
        return "operators are <, <=, > and >="
    if not re.search(r"[<>]", text):
        return "an operator (<, <=, >, >=) is missing"
    if re.search(r"[<>]=?\s*\Z", text):
        return "the value after the operator is missing"
    if text.count("{") != text.count("}"):
        return "a brace is not closed"
    return "it is not PHASE: METRIC OP VALUE"


def _phase(text: str, phase: str | None) -> JudgedPhase | None:
    if phase is None:
        return None
    for judged in JUDGED_PHASES:
        if phase == judged:
            return judged
    if phase in ("warmup", "settle", "gap", "recovery", "tail"):
        raise UsageError(f"target {text!r}: the phase {phase} is not judged; write baseline, fault or after")
    raise UsageError(
        f"target {text!r}: no phase is called {phase!r}{did_you_mean(phase, JUDGED_PHASES)}",
        hint="phases are baseline, fault and after",
    )


def _metric(text: str, metric: str) -> str:
    if metric in METRICS:
        return metric
    known = ", ".join(METRICS)
    if re.fullmatch(r"[pP]\d+(\.\d+)?", metric) and metric.lower() not in METRICS:
        raise UsageError(f"target {text!r}: {metric!r} is not recorded; percentiles are {', '.join(ALLOWED_OVER)}")
    near = difflib.get_close_matches(metric.lower(), [*METRICS], n=1, cutoff=0.75)
    if near:
        raise UsageError(f"target {text!r}: no metric is called {metric!r}; did you mean {near[0]!r}?")
    if usual := _NOT_SIGNALS.get(metric.lower()):
        raise UsageError(f"target {text!r}: no metric is called {metric!r}; did you mean {usual!r}?")
    if "." in metric or len(metric) < 3:
        raise UsageError(f"target {text!r}: no metric is called {metric!r}", hint=f"metrics are {known}, or a signal")
    return metric


_NOT_SIGNALS = {"latency": "p95", "errors": "error_rate", "error": "error_rate", "throughput": "rps", "median": "p50"}
"""Words that people try first and that would otherwise pass for the name of a signal."""


def _limits(text: str, metric: str, op: Op, value: str) -> list[Limit]:
    match = _MAX.fullmatch(value)
    if match is None:
        return [_limit(text, metric, value)]
    if op not in ("<", "<="):
        raise UsageError(f"target {text!r}: max() is for upper limits; write two targets for a lower one")
    parts = [part.strip() for part in match[1].split(",")]
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"target {text!r}: max() takes two limits, for example `max(2x baseline, 0.5%)`")
    limits = [_limit(text, metric, part) for part in parts]
    if any(limit.relative == "plan" for limit in limits):
        raise UsageError(f"target {text!r}: max() is for limits of the service; the plan is a lower one")
    if not any(limit.relative for limit in limits):
        # Which is larger is known already, and not every metric looks at a second limit.
        return [max(limits, key=lambda limit: limit.value)]
    return limits


def _limit(text: str, metric: str, value: str) -> Limit:
    """One limit: absolute, a factor of plan or baseline, or added to the baseline's."""
    what = f"target {text!r}: value"
    if match := _OF.fullmatch(value):
        return _relative(text, metric, match)
    if match := _PLUS.fullmatch(value):
        if not metric_traits(metric).relative:
            raise UsageError(f"{what} {value!r}: {metric} has no baseline to compare with; write a value with its unit")
        if metric_traits(metric).of_plan:
            raise UsageError(f"{what} {value!r}: nothing can be added to the baseline's {metric}; write a factor of it")
        added = _absolute(text, metric, match[1])
        if added <= 0:
            raise UsageError(f"{what} {value!r}: what is added must be more than 0")
        return Limit(value=added, relative="baseline", plus=True)
    return Limit(value=_absolute(text, metric, value))


def _absolute(text: str, metric: str, value: str) -> float:
    what = f"target {text!r}: value"
    traits = metric_traits(metric)
    if metric in METRICS and not traits.of_plan and re.search(r"\bof\b|\bx\b|\bbaseline\b|\bplan\b", value):
        raise UsageError(f"{what} {value!r} is not understood; write `2x baseline` or `baseline + VALUE`")
    match traits.unit:
        case "ms":
            return round(units.parse_duration(value, what) * 1000, 6)
        case "s":
            return units.parse_duration(value, what)
        case "proportion":
            return units.parse_percent(value, what)
        case "per_h":
            if not value.replace(" ", "").endswith("%/h"):
                raise UsageError(f"{what} {value!r} is a growth per hour; write for example 10%/h")
            return units.parse_percent(value.replace(" ", "")[:-2], what, high=100.0)
        case "per_s":
            if value.endswith("%"):
                raise UsageError(f"{what} {value!r}: {value} of what? Write `{value} of plan` or `{value} of baseline`")
            return units.parse_number(re.sub(r"\s*(/s|rps|RPS)\Z", "", value), what)
        case _:
            if value.endswith("%"):
                return units.parse_percent(value, what, high=100.0)
            return units.parse_number(value, what, high=1e15)


def _relative(text: str, metric: str, match: re.Match[str]) -> Limit:
    what = f"target {text!r}: value"
    base = match["base"].lower()
    if base == "plan" and not metric_traits(metric).of_plan:
        raise UsageError(f"{what} {match[0]!r}: only rps has a plan; write a number with its unit or `2x baseline`")
    if base not in ("plan", "baseline"):
        raise UsageError(f"{what} {match[0]!r}: relative to {base!r}{did_you_mean(base, ('plan', 'baseline'))}")
    if not metric_traits(metric).relative:
        raise UsageError(f"{what} {match[0]!r}: {metric} has no baseline to compare with; write a value with its unit")
    if match["how"].lower().startswith("x"):
        factor = units.parse_number(match["number"], what, high=1e6)
    else:
        factor = units.parse_percent(match["number"] + "%", what, high=1e4)
    if factor == 0:
        raise UsageError(f"{what} {match[0]!r}: a factor of 0 decides nothing")
    return Limit(value=factor, relative="plan" if base == "plan" else "baseline")
