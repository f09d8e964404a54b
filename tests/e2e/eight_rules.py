"""Eight alert rules of known quality through an outage, on a real Prometheus and Alertmanager: what is made of each."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness.adapters.alerts.alertmanager import read
from harness.adapters.wire.http import Client
from harness.analysis.record.spans import Span
from harness.analysis.record.windows import WindowStore
from harness.analysis.rules.detection import detection
from harness.analysis.rules.facts import Facts
from harness.conductor.recording.alerts import AlertRecorder
from harness.model.clock import monotonic, step_of
from harness.model.jsonl import read_lines
from harness.model.records import events as ev
from harness.model.records.alerts import AlertRow, AlertsPlan
from harness.model.records.result import DetectionResult, ImpactResult, RecoveryResult
from tests.analysis.histories import Scene, make
from tests.support.servers.alerting import Exporter, alerting
from tests.support.servers.ports import free_port

RULES = """
groups:
- name: shop
  interval: 1s
  rules:
  - {alert: Right, expr: app_up == 0, for: 2s, labels: {severity: critical}}
  - {alert: LongFor, expr: app_up == 0, for: 5m}
  - {alert: WrongLabel, expr: 'app_up{job="shopp"} == 0', for: 1s}
  - {alert: LongWindow, expr: 'sum_over_time((app_up == bool 0)[2m:1s]) > 60'}
  - {alert: Absent, expr: absent(app_build_info)}
  - {alert: Flapping, expr: app_flap == 1}
  - {alert: Inhibited, expr: app_up == 0, for: 4s, labels: {severity: warning}}
  - {alert: Always, expr: vector(1)}
"""
INHIBIT = '[{source_matchers: ["severity=critical"], target_matchers: ["severity=warning"]}]'
NAMES = ("Right", "LongFor", "WrongLabel", "LongWindow", "Absent", "Flapping", "Inhibited", "Always")
CLASSES = {
    "Right": "detected",
    "LongFor": "not_judged",
    "WrongLabel": "never_fired",
    "LongWindow": "never_fired",
    "Absent": "detected",
    "Flapping": "detected",
    "Inhibited": "held_back",
    "Always": "carried_over",
}
CALM_S, OUTAGE_S, AFTER_S = 6.0, 12.0, 7.0
HEALTHY = {"app_up": 1.0, "app_flap": 0.0, "app_build_info": 1.0}


def first_firing(url: str, alert: str) -> float:
    """When the alert first fired by Prometheus's own ALERTS series: seconds since the epoch."""
    query = urllib.parse.urlencode({"query": f'ALERTS{{alertname="{alert}",alertstate="firing"}}[2m]'})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/api/v1/query?{query}") as reply:
        return float(json.load(reply)["data"]["result"][0]["values"][0][0])


def wait_for_alert(alertmanager: str, alert: str) -> None:
    until = time.monotonic() + 30
    with Client() as client:
        while all(one.alert != alert for one in read(client, alertmanager).active):
            assert time.monotonic() < until, f"{alert} never came to Alertmanager"
            time.sleep(0.2)


class Seen(NamedTuple):
    """truth_s: when `Right` first fired by Prometheus's own series; begun_s: the outage; both since t0."""

    found: DetectionResult
    rows: list[AlertRow]
    truth_s: float
    begun_s: float


def eight_rules(folder: Path) -> Seen:
    """Takes half a minute."""
    exporter = Exporter()
    exporter.metrics = dict(HEALTHY)
    webhook = f"127.0.0.1:{free_port()}"
    out, said = folder / "alerts.jsonl", []
    with alerting(folder, RULES, exporter, webhook, INHIBIT) as (prometheus, alertmanager):
        plan = AlertsPlan(prometheus=prometheus, alertmanager=alertmanager, webhook=webhook, expected=NAMES)
        wait_for_alert(alertmanager, "Always")  # Prometheus finds its Alertmanager seconds after its start
        t0 = monotonic()
        recorder = AlertRecorder(plan, said.append)
        recorder.start(t0, out)
        time.sleep(CALM_S)
        begun = monotonic() - t0
        exporter.metrics = {"app_up": 0.0, "app_flap": 1.0}
        while monotonic() - t0 < begun + OUTAGE_S:
            time.sleep(2.0)
            exporter.metrics["app_flap"] = 1.0 - exporter.metrics["app_flap"]
        ended = monotonic() - t0
        exporter.metrics = dict(HEALTHY)
        time.sleep(AFTER_S)
        end = monotonic() - t0
        truth = first_firing(prometheus, "Right") - (time.time() - monotonic()) - t0
        recorder.stop()
    rows: list[AlertRow] = list(read_lines(out, AlertRow))
    assert not said
    run = msgspec.structs.replace(Scene().plan(), alerts=plan)
    spans = [
        Span("baseline", 20, step_of(begun), True),
        Span("fault", step_of(begun), step_of(ended), True),
        Span("after", step_of(ended), step_of(end), True),
    ]
    recovery = RecoveryResult(
        outcome="recovered",
        seconds=0.0,
        lower_s=0.0,
        upper_s=0.0,
        zero_s=ended,
        from_undo_requested_s=None,
        drain_s=None,
    )
    history = [
        make(ev.FaultInjected, begun, fault="redis-down", sent_s=begun),
        make(ev.Undone, ended, fault="redis-down", sent_s=ended),
    ]
    impact = ImpactResult(
        start_s=begun,
        mitigated_s=None,
        violating_s=ended - begun,
        failed_requests=1,
        budget_burnt=None,
        violating=((begun, ended),),
    )
    facts = Facts(plan=run, store=WindowStore(run), spans=spans, recovery=recovery)
    found = detection(facts, history, impact, rows)
    assert found is not None
    return Seen(found, rows, truth, begun)
