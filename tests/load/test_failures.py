"""Every way in which a request can fail is told by its kind, with each client and the same words."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import Run, make_plan, named
from load_target import Target
from raw_server import certificate

FAILING = Path(__file__).parent / "files" / "failing.py"

SECONDS, TIMEOUT_S = 8, 4.0
"""Generous: what is to be answered at once must not time out on a machine with several times as much to do."""

MODES = ("status", "reset", "close", "garbage", "cut", "drip", "hang", "away", "around")
"""away: a redirect to another host, where nothing listens; around: to this one by another name."""

KIND = {
    "fine": None,
    "status": "status",
    "reset": "reset",
    "close": "reset",
    "garbage": "protocol",
    "cut": "protocol",
    "away": "protocol",
    "around": None,
    "drip": "timeout",
    "hang": "timeout",
    "refused": "refused",
    "check": "check",
    "check of status": "status",
    "check of reset": "reset",
    "check of hang": "timeout",
    "forgiven": None,
    "crash in check": "exception",
    "unused check": None,
    "bad header": "exception",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    target = Target().start()
    target.modes = {f"/{m}": m for m in MODES}
    with pytest.MonkeyPatch.context() as patch, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, not listening: connecting is refused for as long as this is open
        patch.setenv("CLOSED_PORT", str(bound.getsockname()[1]))
        plan = make_plan(FAILING, target.url, rate=75.0, request_timeout_s=TIMEOUT_S)
        with Run(plan, tmp_path_factory.mktemp("failing")) as running:
            yield running.go(SECONDS)
    target.stop()


@pytest.fixture(scope="module")
def tls_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The lean client alone, over TLS; its certificate is verified."""
    folder = tmp_path_factory.mktemp("failing-tls")
    tls, trust = certificate(folder)
    target = Target(tls=tls).start()
    target.modes = {f"/{m}": m for m in MODES}
    with pytest.MonkeyPatch.context() as patch, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        patch.setenv("CLOSED_PORT", str(bound.getsockname()[1]))
        patch.setenv("SSL_CERT_FILE", str(trust))
        plan = make_plan(FAILING, target.url, classes=named("Lean"), rate=30.0, request_timeout_s=TIMEOUT_S)
        with Run(plan, folder) as running:
            yield running.go(SECONDS)
    target.stop()


@pytest.mark.parametrize("way", KIND)
def test_the_kind_of_a_failure_over_tls(tls_run: Run, way: str) -> None:
    counts = tls_run.requests()[f"lean {way}"]
    kind = KIND[way]
    # Resets and cut replies are told as they are without TLS.
    assert counts.fail == ({} if kind is None else {kind: sum(counts.fail.values())})
    assert (counts.ok > 0) == (kind is None)


@pytest.mark.parametrize("client", ["http", "fast", "lean"])
@pytest.mark.parametrize("way", KIND)
def test_the_kind_of_a_failure(run: Run, client: str, way: str) -> None:
    counts = run.requests()[f"{client} {way}"]
    kind = KIND[way]
    total = counts.ok + sum(counts.fail.values())
    assert total >= 1
    assert counts.ok == (total if kind is None else 0)
    assert counts.fail == ({} if kind is None else {kind: total})


def test_every_arrival_is_accounted_for(run: Run) -> None:
    classes = run.classes()
    requests = run.requests()
    for name, client in (("Http", "http"), ("Fast", "fast"), ("Lean", "lean")):
        counts = classes[name]
        mine = [c for n, c in requests.items() if n.startswith(client)]
        assert counts.planned == counts.ended == sum(c.ok + sum(c.fail.values()) for c in mine)
        assert counts.unsent_cap == counts.unsent_generator == counts.failed == 0


def test_a_reply_is_what_the_target_answered(run: Run) -> None:
    """Error replies and failed checks are replies; resets, time-outs, refusals and exceptions are not."""
    requests = run.requests()
    for name, client in (("Http", "http"), ("Fast", "fast"), ("Lean", "lean")):
        replies = sum(
            c.ok + c.fail.get("status", 0) + c.fail.get("check", 0) for n, c in requests.items() if n.startswith(client)
        )
        assert run.classes()[name].replied == replies


def test_every_failure_has_an_example_and_adds_up(run: Run) -> None:
    counted = {(k, n): c for n, counts in run.requests().items() for k, c in counts.fail.items()}
    assert run.errors() == counted


def test_the_total_timeout_holds_against_a_dripping_server(run: Run) -> None:
    """Open until the last byte: the arrivals of the last second are over 4 s after the end, not 50 s."""
    last = max(mark.at for mark in run.marks())
    assert last < SECONDS + TIMEOUT_S + 15
