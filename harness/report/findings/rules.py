"""What to look at next: rules that turn a result into advice.

Each rule reads the plan and the result alone and answers with its evidence; nothing is guessed that the numbers do not
show. The order is the order of usefulness: what spoils the run first, then what broke, then what merely shows strain.
"""

from __future__ import annotations

from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.report.findings import dependency as dependency_findings
from harness.report.findings import run as run_findings
from harness.report.findings import service as service_findings
from harness.report.findings.finding import Finding, Rule, of_target

RULES: tuple[Rule, ...] = (
    run_findings.left_behind,
    run_findings.saturated,
    run_findings.baseline,
    run_findings.unproven,
    run_findings.undecided,
    dependency_findings.lost,
    service_findings.stayed_down,
    service_findings.itself,
    service_findings.down,
    service_findings.health,
    service_findings.fallback,
    service_findings.all_wait,
    service_findings.timeout,
    run_findings.unsent,
    service_findings.synchronous,
    service_findings.limit,
    service_findings.slow_recovery,
    dependency_findings.signature,
    service_findings.one_endpoint,
    service_findings.cold,
    service_findings.signals,
    service_findings.resources,
    run_findings.next_experiment,
)


OF_A_DEPENDENCY: tuple[Rule, ...] = (
    service_findings.down,
    service_findings.health,
    service_findings.fallback,
    service_findings.all_wait,
    service_findings.timeout,
    service_findings.one_endpoint,
)
"""They point to how the service copes without something else."""


def findings(plan: Plan, result: Result) -> tuple[Finding, ...]:
    """Every rule's findings, in the rules' order."""
    left_out = OF_A_DEPENDENCY if of_target(plan) else ()
    return tuple(finding for rule in RULES if rule not in left_out for finding in rule(plan, result))
