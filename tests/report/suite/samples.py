"""Suites for tests of the resilience report: a small mixed one, a large one, a hostile one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.model.jsonl import encode
from harness.model.records.many_runs.gate import Finding, GateResult, Known
from harness.model.records.many_runs.suite import Excluded, SuiteResult
from harness.model.records.result import AlertResult
from tests.analysis.suite.suites import attempt, cell, experiment, suite

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[31m\u202e::error::@team [a](javascript:1) |"
KINDS = ("down", "hang", "latency", "reset", "pause", "kill", "restart", "flush", "connection-limit", "hog")

KNOWN = Known(
    experiment="db-down",
    request="POST /orders",
    target="fault: error_rate < 1%",
    owner="team-orders",
    reason="no fallback yet",
    ticket="SHOP-123",
    until="2026-12-30",
)


def mixed() -> SuiteResult:
    """Two broken (one lost writes), one held with a slow recovery, one unknown, one not run, a control that held."""
    return suite(
        experiment(
            "redis-down",
            attempt(
                "broken",
                [
                    cell("GET /products", "broken", 90),
                    cell("GET /search", "broken", 40, failed=3),
                    cell("GET /health", "held", independent=True),
                    cell("GET /tips", "broken", 50, may_fail=True),
                ],
                directory="01-redis-down",
                harm=1234,
                violating_s=12.3,
                recovery="recovered",
                recovery_s=3.2,
            ),
            attempt(
                "broken",
                [
                    cell("GET /products", "broken"),
                    cell("GET /search", "broken"),
                    cell("GET /tips", "broken", may_fail=True),
                    cell("GET /once", "broken"),
                ],
                directory="07-redis-down",
            ),
            attempt("held", {"GET /products": "held"}, directory="08-redis-down"),
        ),
        experiment(
            "db-down",
            attempt(
                "broken",
                [cell("POST /orders", "broken", 100), cell("GET /health", "broken", 100, independent=True)],
                directory="02-db-down",
                harm=200,
                lost_writes=3,
                recovery="not_recovered",
                reset="api was restarted",
            ),
        ),
        experiment(
            "db-latency",
            attempt(
                "held",
                [cell("POST /orders"), cell("GET /health", independent=True)],
                directory="03-db-latency",
                harm=0,
                recovery="no_impact",
            ),
        ),
        experiment("redis-hang", attempt("unknown", directory="04-redis-hang", reason="The fault was not proven.")),
        experiment("kafka-down", why="the time limit of 10m was reached"),
        experiment("control", attempt("held", {"POST /orders": "held"}, directory="05-control"), faults=()),
        started="2026-11-30T07:38:27.571Z",
        exit_code=1,
        excluded=(Excluded(name="kafka-kill", why="left out by --only"),),
        warnings=("baseline is short",),
    )


def alerted(name: str = "CacheDown") -> SuiteResult:
    """One alert that came, one that did not, one that fired by itself; an experiment that expected none."""
    came = AlertResult(
        alert=name, outcome="detected", seconds=7.0, lower_s=6.0, upper_s=7.0, fired_s=30.0, resolved_after_s=3.0
    )
    silent = AlertResult(alert="TooLate", outcome="never_fired", why="its rule needs 6s")
    false = AlertResult(alert=name, outcome="fired_without_impact", false_alarms=2, why="it fired 2 times")
    short = AlertResult(alert="TooLate", outcome="not_judged", why="fault too short: targets were broken for 4s")
    return suite(
        experiment("redis-down", attempt("broken", directory="01-redis-down", alerts=(came, silent))),
        experiment("db-latency", attempt("held", directory="02-db-latency", alerts=(false, short))),
        experiment("db-down", attempt("held", directory="03-db-down")),
        experiment("kafka-down", why="the suite ended before it"),
    )


def held() -> SuiteResult:
    return suite(experiment("redis-down", attempt("held", {"GET /a": "held"}, directory="01-redis-down")))


def large(experiments: int = 40, names: int = 12, name: str = "GET /api/v1/shops/{shop}/products") -> SuiteResult:
    made = []
    for number in range(experiments):
        outcome = ("broken", "held", "broken", "unknown")[number % 4]
        cells = [
            cell(f"{name}/{each}", "broken" if outcome == "broken" and each % 3 else "held") for each in range(names)
        ]
        one = attempt(outcome, cells, directory=f"{number:02d}-x", harm=number * 10)  # type: ignore[arg-type]
        fault = f"dep{number // 10}-{KINDS[number % 10]}{number // 100 or ''}"
        made.append(experiment(fault, one, one, one))
    return suite(*made)


def gate_of_mixed() -> GateResult:
    new = Finding(experiment="redis-down", request="GET /products", outcome="broken", why="90 of 100 were bad")
    known = Finding(experiment="db-down", request="POST /orders", outcome="broken", known=KNOWN)
    return GateResult(exit_code=1, sentence="failed, 1 newly broken", new=(new,), known=(known,))


def folder(
    path: Path, found: SuiteResult, gate: GateResult | None = None, *, reports: Sequence[str] | None = None
) -> Path:
    """A suite's folder. reports: directories that have a report.html; None: all."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "suite.json").write_bytes(encode(found))
    if gate is not None:
        (path / "gate.json").write_bytes(encode(gate))
    for name in reports if reports is not None else [a.directory for e in found.experiments for a in e.attempts]:
        (path / name).mkdir(exist_ok=True)
        (path / name / "report.html").write_text("<p>one run</p>", encoding="utf-8")
    return path


def changed(found: SuiteResult, **values: object) -> SuiteResult:
    return msgspec.convert({**json.loads(encode(found)), **values}, SuiteResult)
