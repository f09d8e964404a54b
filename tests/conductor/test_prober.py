"""When did the path answer normally again? On synthetic probes, and on a real path that is broken and mended."""

from __future__ import annotations

import time

import pytest

from harness.conductor.recovery_probe import Prober, zero_of
from harness.dependencies.result import ProbeResult
from harness.model.clock import monotonic
from harness.model.records.faults import Dependency
from harness.model.records.process import ServerProcess
from tests.support.servers.proxied import proxied, raw, record_like
from tests.support.servers.real import PostgresServer, ValkeyServer


def took(started: float, seconds: float = 0.002, *, ok: bool = True) -> ProbeResult:
    return ProbeResult(ok=ok, started=started, ended=started + seconds, error_kind=None if ok else "refused")


def good(result: ProbeResult) -> bool:
    return result.ok and result.seconds < 0.05


def test_zero_is_the_send_time_of_the_first_good_probe() -> None:
    probes = [took(9.95, ok=False), took(10.05, ok=False), took(10.10), took(10.15)]
    zero = zero_of(probes, (), 10.0, good)
    assert zero is not None
    assert (zero.zero, zero.lower, zero.upper) == (10.10, 10.05, pytest.approx(10.102))


def test_zero_is_never_before_the_undo_was_sent() -> None:
    """The probe had been waiting when the fault went away; the last bad one was sent before the undo too."""
    zero = zero_of([took(9.94, ok=False), took(9.99, 0.03)], (), 10.0, good)
    assert zero is not None
    assert (zero.zero, zero.lower) == (10.0, 10.0)
    assert zero.upper == pytest.approx(10.02)


def test_a_good_probe_from_before_the_undo_says_nothing() -> None:
    """A toxic with jitter lets one through now and then."""
    assert zero_of([took(9.9), took(10.05, ok=False)], (), 10.0, good) is None


def test_a_slow_answer_is_not_good() -> None:
    zero = zero_of([took(10.01, 0.3), took(10.06, 0.3), took(10.2)], (), 10.0, good)
    assert zero is not None
    assert (zero.zero, zero.lower) == (10.2, 10.06)


def test_zero_waits_for_probes_that_were_sent_earlier() -> None:
    probes = [took(10.1)]
    assert zero_of(probes, [10.05], 10.0, good) is None
    assert zero_of(probes, [10.15], 10.0, good) is not None


def test_a_hanging_path_is_still_looked_at() -> None:
    """Probes overlap: a new one starts although none has ended."""
    started: list[float] = []

    def hang(timeout_s: float) -> ProbeResult:
        started.append(monotonic())
        deadline = time.monotonic() + 20
        while len(started) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        return took(started[-1], ok=False)

    prober = Prober(Dependency(name="x", kind="tcp"), record_like(Dependency(name="x", kind="tcp")), run=hang)
    prober.start()
    deadline = time.monotonic() + 20
    while len(started) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    prober.stop()
    prober.stop()
    assert prober.first_good_after(0.0) is None


def test_one_more_probe_starts_when_it_is_asked_for() -> None:
    """The next planned one is far away; the path is well now."""
    dependency = Dependency(name="x", kind="tcp")
    prober = Prober(dependency, record_like(dependency), every_s=600.0, run=lambda _: took(monotonic()))
    prober.start()
    try:
        deadline = time.monotonic() + 20
        while not prober.results():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.01)  # these probes say that they end 2 ms after they begin
        asked = monotonic()
        prober.look_now()
        found = prober.first_good_after(asked, wait_s=20.0)
    finally:
        prober.stop()
    assert found is not None and found.zero >= asked
    assert len(prober.results()) == 2


def test_a_probe_without_an_address_never_stands_in_an_undos_way() -> None:
    dependency = Dependency(name="x", kind="redis")
    prober = Prober(dependency, record_like(dependency))
    prober.start()
    assert prober.first_good_after(monotonic()) is None
    prober.stop()


@pytest.mark.stack
@pytest.mark.parametrize("server", ["valkey_server", "postgres_server"])
@pytest.mark.parametrize("fault", ["down", "hang", "latency"])
def test_a_path_that_is_mended_at_a_known_instant(
    server: str,
    fault: str,
    request: pytest.FixtureRequest,
    toxiproxy_server: str,
    toxiproxy_process: ServerProcess,
) -> None:
    behind: ValkeyServer | PostgresServer = request.getfixturevalue(server)
    with proxied(toxiproxy_server, toxiproxy_process, behind) as dependency:
        proxy = f"{toxiproxy_server}/proxies/{dependency.proxy.name}"
        toxic = {"name": "t", "type": "timeout", "attributes": {"timeout": 0}}
        if fault == "latency":
            toxic = {"name": "t", "type": "latency", "attributes": {"latency": 800}}
        prober = Prober(dependency, record_like(dependency, good_below_s=0.4))
        prober.start()
        try:
            assert prober.first_good_after(monotonic(), wait_s=20) is not None
            if fault == "down":
                raw(proxy, "POST", {"enabled": False})
            else:
                raw(f"{proxy}/toxics", "POST", toxic)
            time.sleep(1.5)
            bad = [probe for probe in prober.results() if not prober.good(probe)]
            assert bad, "the prober did not notice the fault"
            sent = monotonic()
            if fault == "down":
                raw(proxy, "POST", {"enabled": True})
            else:
                raw(f"{proxy}/toxics/t", "DELETE")
            replied = monotonic()
            zero = prober.first_good_after(sent, wait_s=20)
        finally:
            prober.stop()
        assert zero is not None
        assert sent <= zero.lower <= zero.zero <= zero.upper
        # The doubt holds the instant at which the server changed, which lies between statement and answer.
        assert zero.lower <= replied
        # Any probe sent after the answer finds a mended path.
        later = [probe.started for probe in prober.results() if probe.started >= replied and prober.good(probe)]
        assert all(zero.zero <= started for started in later)
