"""What somebody else does to the dependencies while a run has faults on them: raw HTTP, SQL and clients, no product."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import psycopg

from tests.e2e.observe import Run

NOTICED_S = 15.0
"""Checks come every second, looks for a bypass every three; a machine shared by many needs more."""


def call(method: str, url: str, body: object = None) -> Any:
    """One raw exchange with Toxiproxy's API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def execute(conninfo: str, statement: str) -> None:
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as admin:
        admin.execute(statement.encode())


def not_proven(run: Run) -> dict[str, str]:
    """Fault -> why it does not count, so far."""
    return {e["fault"]: e["missing"] for e in run.events() if e["event"] == "fault_not_proven"}


def proven(run: Run) -> set[str]:
    return {e["fault"] for e in run.events() if e["event"] == "fault_proven"}


def wait_all_proven(run: Run, *faults: str) -> None:
    for fault in faults:
        run.wait_for(lambda event, fault=fault: event["event"] == "fault_proven" and event["fault"] == fault)


def reason_about(run: Run, fault: str) -> str:
    """The one reason of the verdict that says why a fault does not count."""
    (reason,) = [r for r in run.result()["reasons"] if r.startswith(f"The fault {fault} was not proven")]
    return str(reason)


def left_about(run: Run, fault: str) -> str:
    """The one reason that says what is left of a fault, and how to mend it; it was also printed."""
    (reason,) = [r for r in run.result()["reasons"] if r.startswith(f"{fault}: ")]
    return str(reason)
