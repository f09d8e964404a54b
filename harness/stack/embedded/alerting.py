"""Prometheus and Alertmanager beside the embedded stack (`--with-alerts`), from PATH, with rules for the sample API."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.model.records.alerts import AlertsPlan
from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.stack.embedded.private_folder import server_env
from harness.stack.starting.child import answer_of
from harness.stack.starting.ready import fetched

PROMETHEUS, ALERTMANAGER = "prometheus", "alertmanager"
TITLES = {PROMETHEUS: "Prometheus", ALERTMANAGER: "Alertmanager"}
_PROGRAMS = {PROMETHEUS: ("prometheus",), ALERTMANAGER: ("prometheus-alertmanager", "alertmanager")}
"""Their names on PATH; Debian calls the second one otherwise than upstream does."""
EXPECTED = ("SampleApiDegraded",)
"""What users feel: any fault that breaks the sample API's targets for long enough should set it off."""
RULES = """\
groups:
- name: sample-api
  rules:
  - alert: SampleApiDegraded
    expr: >-
      up{job="sample-api"} == 0
      or sum(rate(http_requests_total{status=~"5..|499"}[10s])) / sum(rate(http_requests_total[10s])) > 0.01
      or histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[10s]))) > 0.2
    for: 4s
    labels: {severity: critical}
    annotations: {summary: "The sample API does not answer, fails over 1 % of requests, or has a p95 over 200 ms."}
  - {alert: SampleApiDown, expr: 'up{job="sample-api"} == 0', for: 4s, labels: {severity: critical}}
  - {alert: RedisDown, expr: redis_up == 0, for: 4s, labels: {severity: warning}}
  - {alert: DatabaseDown, expr: db_up == 0, for: 4s, labels: {severity: warning}}
  - {alert: KafkaDown, expr: kafka_up == 0, for: 4s, labels: {severity: warning}}
"""
_CONFIG = """\
global: {{scrape_interval: 2s, scrape_timeout: 1s, evaluation_interval: 2s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: sample-api, static_configs: [{{targets: ["{api}"]}}]}}]
"""
_ROUTE = "route: {receiver: nobody, group_wait: 1s, group_interval: 5s}\nreceivers: [{name: nobody}]\n"
"""Nobody is told: a run looks by itself."""


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    prometheus: str
    alertmanager: str

    @property
    def versions(self) -> dict[str, str]:
        found = {}
        for name, program in ((PROMETHEUS, self.prometheus), (ALERTMANAGER, self.alertmanager)):
            answer = answer_of(program, "--version")
            version = re.search(r"version ([\w.+~-]{1,40})", f"{answer.stdout}{answer.stderr}" if answer else "")
            found[name] = version[1] if version is not None else "unknown"
        return found


def programs() -> Programs:
    """On PATH. Raises UsageError naming what is missing."""
    found = {name: next(filter(None, map(shutil.which, wanted)), None) for name, wanted in _PROGRAMS.items()}
    if missing := [TITLES[name] for name, program in found.items() if program is None]:
        raise UsageError(
            f"--with-alerts: {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not on PATH",
            hint="apt-get install prometheus prometheus-alertmanager, or put the programs of their releases on PATH",
        )
    return Programs(prometheus=found[PROMETHEUS] or "", alertmanager=found[ALERTMANAGER] or "")


def wanted() -> AlertsPlan:
    """For a run on a stack that is not up yet."""
    return AlertsPlan(expected=EXPECTED, of_stack=True)


def specs(found: Programs, home: Path, api: Address, at: tuple[Address, Address], logs: Path) -> tuple[ServerSpec, ...]:
    """home: a folder of their own. at: where Prometheus and Alertmanager listen."""
    prometheus, alertmanager = at
    (home / "rules.yml").write_text(RULES)
    (home / "prometheus.yml").write_text(_CONFIG.format(alertmanager=alertmanager, api=api))
    (home / "alertmanager.yml").write_text(_ROUTE)
    # One core at most: they share the machine with what is measured.
    env = server_env(home, GOMAXPROCS="1")
    return (
        ServerSpec(
            name=PROMETHEUS,
            argv=(
                found.prometheus,
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'prometheus'}",
                "--storage.tsdb.retention.size=256MB",
                f"--web.listen-address={prometheus}",
            ),
            env=env,
            cwd=str(home),
            log=str(logs / "prometheus.log"),
        ),
        ServerSpec(
            name=ALERTMANAGER,
            argv=(
                found.alertmanager,
                f"--config.file={home / 'alertmanager.yml'}",
                f"--storage.path={home / 'alertmanager'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
            ),
            env=env,
            cwd=str(home),
            log=str(logs / "alertmanager.log"),
        ),
    )


def probe(address: Address) -> None:
    """Either of them. Raises NotReady."""
    fetched(f"http://{address}/-/ready")
