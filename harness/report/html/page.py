"""What report.html shows, as plain text in order; nothing here is escaped, the template does that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.model.records.events import Event, Started
from harness.model.records.plan import Plan
from harness.model.records.result import FaultResult, PhaseResult, Result
from harness.report.findings.dependency import acknowledged_sentence
from harness.report.findings.notes import notes
from harness.report.findings.rules import findings
from harness.report.html import charts, tables
from harness.report.html.axis import axis_of, recovery_rows
from harness.report.html.svg import strip
from harness.report.sentences import text
from harness.report.sentences.assessment import interval
from harness.report.sentences.detection import lead
from harness.report.sentences.event_log import moments
from harness.report.sentences.recovery_words import recovery_sentence, relapse_words
from harness.report.sentences.story import (
    headline,
    lines_of,
    load_sentence,
    not_measured,
    other_reasons,
    reproduce,
    scale_sentence,
    title,
    totals,
    undo_words,
)

if TYPE_CHECKING:
    from harness.analysis.verdict.timeline import ChartData

MAX_FAULTS = 30
_WORDS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}


class Named(msgspec.Struct, frozen=True):
    name: str
    value: str


class Tile(msgspec.Struct, frozen=True):
    name: str
    value: str
    more: str = ""


class FaultBlock(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    state: str
    css: str
    told: str
    table: tables.Table


def page(
    plan: Plan, result: Result, chart: ChartData, history: Sequence[Event], run_dir: Path | str | None = None
) -> dict[str, object]:
    """By the names that the template calls it by, which knows no others."""
    # Those without proof first, where there are too many for a page.
    many = len(result.faults) > MAX_FAULTS
    shown = sorted(result.faults, key=lambda fault: fault.proven)[:MAX_FAULTS] if many else result.faults
    word = _WORDS[result.verdict]
    first = headline(plan, result)
    # The badge already says PASS; the sentence under it begins with its first own word.
    own = first.removeprefix(f"{word}: ")
    begun = next((event for event in history if isinstance(event, Started)), None)
    return {
        "harness": plan.provenance.harness if plan.provenance else "",
        "experiment": text.visible(plan.experiment),
        "title": f"{title(plan)} / {text.visible(plan.scenario.name, 60)}",
        "verdict": result.verdict,
        "word": word,
        "headline": own[:1].upper() + own[1:],
        "reasons": other_reasons(result, first),
        "about": _about(plan, result),
        "scale": scale_sentence(plan) or "",
        "warnings": tuple(text.visible(warning, 500) for warning in result.warnings),
        "tiles": _tiles(plan, result) if result.phases else (),
        "zooms": charts.zooms(plan, result, chart, history),
        "faulted": any(fault.injected_s is not None for fault in result.faults),
        "zero": result.recovery is not None and result.recovery.zero_s is not None,
        "began": f" at {text.when(begun.wall)}" if begun else "",
        "targets": tables.targets(lines_of(plan, result)),
        "recovery": recovery_sentence(plan, result),
        "recovery_targets": tables.recovery_targets(result),
        "recovery_strip": _recovery_strip(plan, result, chart, history),
        "impact": _impact(plan, result),
        "detection": lead(result.detection) if result.detection is not None else "",
        "alerts": tables.alerts(result),
        "findings": findings(plan, result),
        "faults": tuple(_fault(plan, fault) for fault in shown),
        "more_faults": len(result.faults) - len(shown),
        "phases": tables.phases(result),
        "measured": tables.measured(result),
        "requests": tables.requests(result),
        "by_phase": tables.by_phase(result),
        "errors": tables.errors(result),
        "traces": tables.traces(plan, result),
        "signals": tables.signals(result, chart),
        "not_measured": not_measured(plan, result),
        "command": text.visible(reproduce(plan), 4000),
        "moments": tables.moments(moments(history)),
        "provenance": _provenance(plan, result, run_dir),
    }


def _about(plan: Plan, result: Result) -> str:
    parts = [
        f"Scenario {text.visible(plan.scenario.name, 60)}",
        load_sentence(plan),
        f"{plan.stack} stack",
        f"target {text.visible(result.target_url, 200)}",
        f"seed {plan.seed}",
    ]
    return ", ".join(parts) + (f"; {text.when(result.started)}" if result.started else "") + "."


def _tiles(plan: Plan, result: Result) -> tuple[Tile, ...]:
    whole = totals(result)
    baseline, fault = result.phase("baseline"), result.phase("fault")
    made = [Tile("Requests in all", text.count(whole.requests), f"{text.rps(whole.rps)} replies a second on average")]
    if fault and not plan.control_run:
        before = baseline.error_rate if baseline else None
        made.append(
            Tile("Failed during the fault", text.percent(fault.error_rate), f"{text.percent(before)} in baseline")
        )
        before = baseline.p95_ms if baseline else None
        made.append(Tile("p95 during the fault", text.ms(fault.p95_ms), _p95_words(fault, before)))
    else:
        made.append(Tile("Failed", text.percent(whole.error_rate), f"{whole.failures:,} requests"))
        made.append(Tile("p95 in baseline", text.ms(baseline.p95_ms if baseline else None)))
    if result.recovery and not plan.control_run:
        recovery = result.recovery
        words = tables.recovery_outcome(recovery.outcome)
        value = text.seconds(recovery.seconds) if recovery.seconds is not None else words
        if recovery.graded and recovery.outcome == "recovered":
            value = "by degrees"
        made.append(Tile("Recovery", value, interval(recovery) if recovery.outcome == "recovered" else words))
    if result.impact and not plan.control_run:
        burnt = result.impact.budget_burnt
        more = f"error budget burnt: {burnt * 100:,.0f} %" if burnt is not None else ""
        made.append(Tile("Targets broken for", text.seconds(result.impact.violating_s), more))
    return tuple(made)


def _p95_words(fault: PhaseResult, before: float | None) -> str:
    """Of which requests the percentile speaks: of few, where most failed."""
    said = f"{text.ms(before)} in baseline"
    rate = fault.error_rate or 0.0
    if rate < 0.01:
        return said
    took = f"; failed ones took {text.ms(fault.failed_p95_ms)} (p95)" if fault.failed_p95_ms is not None else ""
    return f"of the {text.percent(1 - rate)} that succeeded{took}; {said}"


def _recovery_strip(plan: Plan, result: Result, chart: ChartData, history: Sequence[Event]) -> str:
    """The faults and when each target held again, a bar each; nothing where no target has an interval."""
    axis = axis_of(plan, result, chart, history)
    rows = recovery_rows(axis, result.recovery) if result.recovery else []
    return strip(axis, rows, told="When it was so") if rows else ""


def _impact(plan: Plan, result: Result) -> tuple[str, ...]:
    said: list[str] = []
    impact, recovery = result.impact, result.recovery
    if impact and not plan.control_run:
        if impact.start_s is not None:
            said.append(f"Users were hit from {text.moment(impact.start_s)}.")
        if impact.mitigated_s is not None:
            held = ", and held until it ended" if impact.mitigated_at_least else ""
            when = text.moment(impact.mitigated_s)
            said.append(f"The service adapted while the fault was still on: targets held again from {when}{held}.")
        said.append(
            f"Targets were broken for {text.seconds(impact.violating_s)} in all; "
            f"{impact.failed_requests:,} requests failed."
        )
        if impact.budget_burnt is not None:
            said.append(f"{impact.budget_burnt * 100:,.0f} % of this run's error budget was used.")
    if recovery and recovery.drain_s is not None:
        said.append(f"The last request begun before the undo ended {text.seconds(recovery.drain_s)} after it.")
    said += [f"Broken again after recovery: {told}." for told in (relapse_words(recovery) if recovery else ())]
    said += notes(plan, result)
    if (promised := acknowledged_sentence(result)) is not None:
        said.append(promised)
    return tuple(said)


def _fault(plan: Plan, fault: FaultResult) -> FaultBlock:
    change = next((planned.change for planned in plan.faults if planned.id == fault.name), None)
    params = ", ".join(f"{text.visible(k, 40)} {text.visible(str(v), 60)}" for k, v in fault.params.items())
    told = f"{text.visible(change.does, 300)}. " if change and change.does else ""
    told += f"Parameters: {params}. " if params else ""
    if fault.injected_s is None:
        state, css = "never injected", "not_judged"
    else:
        state, css = ("proven", "held") if fault.proven else ("not proven", "broken")
        told += f"Injected at {text.moment(fault.injected_s)}; {undo_words(plan, fault)}."
        told += f" Missing: {text.visible(fault.missing, 300)}." if fault.missing and not fault.proven else ""
    title = text.visible(fault.name, 80)
    return FaultBlock(title=title, state=state, css=css, told=told, table=tables.proofs(fault.proof))


def _provenance(plan: Plan, result: Result, run_dir: Path | str | None) -> tuple[Named, ...]:
    found = [Named("Experiment", text.visible(plan.experiment))]
    if run_dir is not None:
        found.append(Named("Run directory", text.visible(str(run_dir), 1000)))
    origin = plan.provenance
    if origin:
        found += [
            Named("Harness", origin.harness),
            *((Named("Started in", f"a checkout at commit {text.visible(origin.git, 60)}"),) if origin.git else ()),
            Named(
                "Machine",
                f"{text.visible(origin.machine)}, {origin.cpus} CPUs, {text.size(origin.memory_bytes)} of memory, "
                f"Python {text.visible(origin.python)}",
            ),
            Named("Service version", text.visible(origin.target_version or text.UNKNOWN)),
        ]
        found += [Named(text.visible(k, 60), text.visible(v, 100)) for k, v in sorted(origin.versions.items())]
    load = plan.load
    found.append(
        Named("Load", f"{load_sentence(plan)}, {load.workers} worker(s), at most {load.max_in_flight:,} in flight")
    )
    found.append(Named("Request time-out", text.seconds(load.request_timeout_s)))
    generator = result.generator
    if generator:
        cpu = f"busiest process {text.percent(generator.cpu)} of a core" if generator.cpu is not None else "CPU unknown"
        late = f"lateness p99 {text.ms(generator.lateness_p99_ms)}"
        found.append(Named("Load generator", f"{cpu}, {late}, {generator.unsent:,} unsent"))
    found.append(Named("Exit code", str(result.exit_code)))
    return tuple(found)
