"""What a run tells a Prometheus: the right numbers, nothing of a blind drill, never a wait. A real one scrapes it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.conductor.recording.exposition import Exposition
from harness.conductor.recording.history import History
from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.records.events import FaultInjected, PhaseStarted, Undone
from harness.model.records.plan import Plan
from harness.model.records.windows import ClassCounts, DeltaRow, MarkRow, RequestCounts
from harness.model.sketch import bucket_of
from tests.report.sample import plan_of
from tests.support.servers.ports import free_port

DASHBOARD = Path(__file__).parents[2] / "docs" / "examples" / "grafana-dashboard.json"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def served() -> Iterator[tuple[Exposition, int, list[str]]]:
    port, said = free_port(), list[str]()
    exposition = Exposition(port, said.append)
    yield exposition, port, said
    exposition.close()


def scraped(port: int) -> dict[str, float]:
    with DIRECT.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def seen(port: int, what: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    until = time.monotonic() + 10
    while not what(found := scraped(port)):
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found


def planned() -> Plan:
    plan = plan_of("fail")
    return msgspec.structs.replace(plan, load=msgspec.structs.replace(plan.load, run="20261123T160000.000Z"))


def begun(exposition: Exposition, folder: Path, *, hidden: bool = False) -> History:
    history = History(folder / "history.jsonl", "x", lambda _: None)
    exposition.follow(planned(), history, hidden=hidden)
    history.start(monotonic())
    history.add(PhaseStarted, phase="fault", start_s=1.0)
    history.add(FaultInjected, fault="redis-down", sent_s=1.0)
    return history


def rows() -> list[DeltaRow | MarkRow]:
    fast, slow = bucket_of(20.0), bucket_of(400.0)
    counts = RequestCounts(
        ok=12, backfilled=2, fail={"timeout": 5}, backfilled_fail={"timeout": 1}, sum_ms=2360.0,
        backfilled_sum_ms=800.0, sketch=[fast, 8, slow, 4], backfilled_sketch=[slow, 2], max_ms=400.0,
    )  # fmt: skip
    classes = {"U": ClassCounts(planned=9, ended=9, unsent_cap=3)}
    mark = MarkRow(worker="w0", at=1.0, done=10, open=[3, 2, 4, 5], users=11, lateness_p99_ms=2.5, lateness_n=4)
    return [DeltaRow(worker="w0", step=3, classes=classes, requests={'GET "x"\n': counts}), mark]


def test_the_numbers(served: tuple[Exposition, int, list[str]], tmp_path: Path) -> None:
    exposition, port, said = served
    history = begun(exposition, tmp_path)
    exposition.rows(rows())
    exposition.rows(rows())
    name = r'name="GET \"x\"\n"'
    found = seen(port, lambda now: now.get(f'harness_requests_total{{{name},outcome="ok"}}') == 20)
    assert found[f'harness_requests_total{{{name},outcome="timeout"}}'] == 8
    assert found[f"harness_request_latency_seconds_count{{{name}}}"] == 20
    assert found[f"harness_request_latency_seconds_sum{{{name}}}"] == pytest.approx(3.12)
    by_bound = {
        bound: found[f'harness_request_latency_seconds_bucket{{le="{bound}",{name}}}']
        for bound in ("0.025", "0.3", "0.5", "+Inf")
    }
    assert by_bound == {"0.025": 16, "0.3": 16, "0.5": 20, "+Inf": 20}
    assert found['harness_arrivals_unsent_total{cause="cap"}'] == 6
    assert found["harness_arrivals_in_flight"] == 7 and found["harness_users"] == 11
    assert found["harness_generator_lateness_seconds"] == 0.0025 and found["harness_generator_saturated"] == 0
    assert found['harness_phase{phase="fault"}'] == 1 and found['harness_phase{phase="baseline"}'] == 0
    assert found['harness_fault_on{fault="redis-down"}'] == 1
    experiment = planned().experiment
    assert found[f'harness_run_info{{experiment="{experiment}",run="20261123T160000.000Z"}}'] == 1
    assert found['harness_fault_injections_total{fault="redis-down"}'] == 1
    history.add(Undone, fault="redis-down", sent_s=2.0)
    exposition.over()
    found = seen(port, lambda now: now['harness_phase{phase="fault"}'] == 0)
    assert found['harness_fault_on{fault="redis-down"}'] == 0 and said == []


def test_a_blind_drill_is_not_told(served: tuple[Exposition, int, list[str]], tmp_path: Path) -> None:
    exposition, port, _ = served
    begun(exposition, tmp_path, hidden=True)
    exposition.rows(rows())
    found = seen(port, lambda now: "harness_users" in now and now["harness_users"] == 11)
    assert not [name for name in found if "redis" in name or "phase" in name or "fault" in name]


def test_before_an_experiment_there_is_none(served: tuple[Exposition, int, list[str]]) -> None:
    assert not [name for name in scraped(served[1]) if "fault" in name]


def test_a_port_that_is_taken_is_one_line(served: tuple[Exposition, int, list[str]]) -> None:
    with pytest.raises(UsageError, match=r"of 127\.0\.0\.1 cannot be listened on") as refused:
        Exposition(served[1], lambda _: None)
    assert refused.value.field == "metrics_port"


def test_what_hangs_or_breaks_costs_the_run_nothing(served: tuple[Exposition, int, list[str]], tmp_path: Path) -> None:
    exposition, _, said = served
    begun(exposition, tmp_path)
    with exposition._lock:  # a scrape that never ends
        start = time.monotonic()
        for _ in range(1000):
            exposition.rows(rows())
        assert time.monotonic() - start < 5.0
    exposition.rows([None])  # type: ignore[list-item]
    exposition._heard.put(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    exposition._heard.put(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    exposition._thread.join(10)
    assert len(said) == 1 and "stand still: ZeroDivisionError" in said[0]


def test_the_dashboard_asks_for_what_there_is(served: tuple[Exposition, int, list[str]], tmp_path: Path) -> None:
    exposition, port, _ = served
    begun(exposition, tmp_path)
    exposition.rows(rows())
    found = seen(port, lambda now: "harness_generator_lateness_seconds" in now)
    names = {name.partition("{")[0] for name in found}
    asked = {word for text in _expressions(DASHBOARD) for word in re.findall(r"\bharness_\w+", text)}
    told = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert asked <= names and {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked} == told
    page = (DASHBOARD.parents[1] / "monitoring.md").read_text()
    assert not [name for name in told if name not in page]


def _expressions(path: Path) -> list[str]:
    dashboard = json.loads(path.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return found + [one["expr"] for one in dashboard["annotations"]["list"] if "expr" in one]


def test_a_real_prometheus_scrapes_it_and_answers_the_dashboard(
    served: tuple[Exposition, int, list[str]], tmp_path: Path
) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs prometheus on PATH")
    exposition, port, _ = served
    begun(exposition, tmp_path)
    web = free_port()
    (tmp_path / "p.yml").write_text(
        "scrape_configs: [{job_name: harness, scrape_interval: 200ms, scrape_timeout: 150ms, static_configs: "
        f'[{{targets: ["127.0.0.1:{port}"]}}]}}]\n'
    )
    command = [program, f"--config.file={tmp_path}/p.yml", f"--storage.tsdb.path={tmp_path}/tsdb"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{web}"], stdout=log, stderr=log)
        try:
            until = time.monotonic() + 40
            waiting = _expressions(DASHBOARD)
            while waiting and time.monotonic() < until:
                exposition.rows(rows())
                waiting = [expr for expr in waiting if not _answer(web, expr)]
                time.sleep(0.2)
            assert not waiting, (tmp_path / "log").read_text()[-2000:]
        finally:
            server.terminate()
            server.wait(10)


def _answer(port: int, expression: str) -> list[Any]:
    query = urllib.parse.quote(expression.replace("$__rate_interval", "5s"))
    try:
        with DIRECT.open(f"http://127.0.0.1:{port}/api/v1/query?query={query}", timeout=5) as reply:
            found: list[Any] = json.load(reply)["data"]["result"]
            return found
    except OSError:
        return []
