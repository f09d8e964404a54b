"""The text of one `--fault`, and its parameters in base units.

    FAULT    = DEPENDENCY "-" KIND [":" PARAM {"," PARAM}] ["@" START] ["+" DURATION] | "none"
    PARAM    = NAME "=" VALUE
    START, DURATION = a duration with its unit, `10s`, `1m30s`, `500ms`

`kafka-latency:latency=500ms,jitter=50ms@10s+20s` is 500 ms of latency on kafka, from 10 s to 30 s of the fault
phase. DEPENDENCY is matched against the declared names, the longest first; the rest is the kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from harness.model import units
from harness.model.errors import UsageError, unknown
from harness.model.records.faults import FaultSpec, ParamInfo, Scalar
from harness.model.records.plan import MAX_PHASE_S, PlannedFault

NONE = "none"

_FAULT = re.compile(r"(?P<name>[^:@+]+)(:(?P<params>[^@]*?))?(@(?P<at>[^+]*))?(\+(?P<for>.*))?", re.DOTALL)


def parse_fault(
    text: str, dependencies: Iterable[str], kinds: Iterable[str], *, where: str | None = None
) -> FaultSpec | None:
    """Parse one --fault; None for `none`. Raises UsageError naming what is wrong in it.

    where: what an error begins with, ending in ": "; the option and its text where it is not given.
    """
    matched = _FAULT.fullmatch(text.strip())
    where = f"--fault {text!r}: " if where is None else where
    if matched is None:
        raise UsageError(f"{where}not a fault: {text!r}", hint="write DEPENDENCY-KIND, for example redis-down")
    name = matched["name"].strip()
    if name == NONE:
        if matched["params"] is not None or matched["at"] is not None or matched["for"] is not None:
            raise UsageError(f"{where}`none` is the control run and takes no parameters, start or duration")
        return None
    dependency, kind = _split_name(name, sorted(dependencies, key=len, reverse=True), tuple(kinds), where)
    at = _duration(matched["at"], "start", where)
    for_s = _duration(matched["for"], "duration", where)
    if for_s == 0:
        raise UsageError(f"{where}a duration of 0 injects nothing")
    return FaultSpec(
        name=name,
        dependency=dependency,
        kind=kind,
        params=_split_params(matched["params"], where),
        at_s=at or 0.0,
        for_s=for_s,
        text=text.strip(),
    )


def _split_name(name: str, dependencies: list[str], kinds: tuple[str, ...], where: str) -> tuple[str, str]:
    for dependency in dependencies:
        if name.startswith(dependency + "-"):
            kind = name[len(dependency) + 1 :]
            if kind not in kinds:
                raise unknown("fault", name, (f"{dependency}-{k}" for k in kinds), where=where)
            return dependency, kind
    if not dependencies:
        raise UsageError(
            f"{where}this stack declares no dependency, so only `--fault none` can run on it",
            hint="use --stack embedded, or leave --fault out",
        )
    from difflib import get_close_matches

    meant = next((name.removesuffix(f"-{kind}") for kind in kinds if name.endswith(f"-{kind}")), name)
    if meant != name and not get_close_matches(meant, dependencies):
        # A fault of that kind on something else would be near by its letters alone.
        raise UsageError(f"{where}unknown fault {name!r}", hint=f"the dependencies here are {', '.join(dependencies)}")
    raise unknown("fault", name, (f"{d}-{k}" for d in dependencies for k in kinds), where=where)


def _split_params(text: str | None, where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in (text or "").split(",") if text is not None else []:
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name or not value.strip():
            raise UsageError(f"{where}{part.strip()!r} is not a parameter", hint="write NAME=VALUE, NAME=VALUE")
        if name in found:
            raise UsageError(f"{where}parameter {name!r} is given twice")
        found[name] = value.strip()
    return found


def _duration(text: str | None, what: str, where: str) -> float | None:
    if text is None:
        return None
    try:
        seconds = units.parse_duration(text.strip())
    except UsageError as error:
        raise UsageError(f"{where}{what}: {error}", hint=error.hint) from error
    if seconds > MAX_PHASE_S:
        raise UsageError(f"{where}{what} {text} is over 24 hours")
    return seconds


def decode_params(spec: FaultSpec, infos: Iterable[ParamInfo], *, where: str | None = None) -> dict[str, Scalar]:
    """A fault's parameters in base units (seconds, bytes, bytes per second), defaults filled in.

    where: what an error begins with, as in parse_fault.
    Raises UsageError for an unknown name, a wrong unit, or a value out of its bounds.
    """
    known: Mapping[str, ParamInfo] = {info.name: info for info in infos}
    where = f"--fault {spec.text!r}: " if where is None else where
    for name in spec.params:
        if name not in known:
            if not known:
                raise UsageError(f"{where}{spec.name} takes no parameters")
            raise unknown("parameter", name, known, where=where)
    return {name: _decode(spec.params.get(name, info.default), info, where) for name, info in known.items()}


def _decode(text: str, info: ParamInfo, where: str) -> Scalar:
    if info.unit == "choice":
        if text not in info.choices:
            raise unknown(f"{info.name}", text, info.choices, where=where)
        return text
    if info.unit == "name":
        return text
    parse = {
        "duration": units.parse_duration,
        "size": units.parse_size,
        "rate": units.parse_rate,
        "count": units.parse_count,
        "number": units.parse_number,
        "share": units.parse_percent,
    }[info.unit]
    try:
        value = parse(text)
    except UsageError as error:
        raise UsageError(f"{where}{info.name}: {error}", hint=error.hint) from error
    if (info.low is not None and value < info.low) or (info.high is not None and value > info.high):
        raise UsageError(f"{where}{info.name}={text} is out of range", hint=bounds(info))
    return value


def bounds(info: ParamInfo) -> str:
    """`from 1KB/s to 10MB/s`; for the catalogue and for errors. One of low and high must be set."""
    low, high = (None if bound is None else _shown(bound, info) for bound in (info.low, info.high))
    if low is not None and high is not None:
        return f"from {low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}"


def _shown(value: float, info: ParamInfo) -> str:
    if info.unit == "duration":
        return units.format_duration(value)
    if info.unit in ("size", "rate"):
        return units.format_bytes(value) + ("/s" if info.unit == "rate" else "")
    if info.unit == "share":
        return units.format_percent(value)
    return f"{value:g}"


def harder_fault(faults: Sequence[PlannedFault]) -> str | None:
    """A fault on the same proxy which most often hurts a service that survives these; None where there is none."""
    first = faults[0].change.dependency
    had = {fault.spec.kind for fault in faults}
    harder = next((kind for kind in ("hang", "latency", "down") if kind not in had), None)
    return f"{first.name}-{harder}" if harder is not None and first.proxied else None


def fault_text(name: str, params: Mapping[str, str], at_s: float, for_s: float | None) -> str:
    """The --fault that means the same: `redis-down@8s+4s`."""
    given = ",".join(f"{key}={value}" for key, value in params.items())
    start = f"@{_exactly(at_s)}" if at_s else ""
    return name + (f":{given}" if given else "") + start + (f"+{_exactly(for_s)}" if for_s is not None else "")


def _exactly(seconds: float) -> str:
    return f"{round(seconds, 3):g}s" if seconds < 1e5 else f"{round(seconds)}s"
