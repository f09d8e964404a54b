"""No PASS of a fault at a front that the application does not use: what a real Envoy has counted."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from harness.conductor.path_proof.clients import snapshot
from harness.conductor.path_proof.evidence import passed_evidence
from harness.dependencies.probe import path_probe
from harness.doctor.connections import watch
from harness.fault import registered
from harness.model.records.faults import Dependency, DependencyFront
from harness.model.records.stack import StackUp, TargetInfo
from tests.conductor.test_outside import Judged, Service, application, service
from tests.support.servers.envoy import answered, fronted, upstream
from tests.support.servers.real import SubprocessLauncher

__all__ = ["service"]

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def risk(_launcher: SubprocessLauncher) -> Iterator[Dependency]:
    with upstream() as server, fronted(_launcher, server.address) as (dependency, _):
        yield dependency


def test_requests_of_others_between_two_looks_prove_it_and_ours_do_not(risk: Dependency) -> None:
    first = snapshot(risk)
    assert not first.can_tell, "who is connected it still cannot tell, for faults on its proxy"
    path_probe(risk)(5.0)
    second = snapshot(risk)
    nobody = passed_evidence(first, second, risk)
    assert not nobody.held and nobody.observed.startswith("0 requests of others than the harness")
    answered(f"http://{risk.path}/")
    somebody = passed_evidence(second, snapshot(risk), risk)
    assert somebody.held and somebody.source == "path" and somebody.observed.startswith("1 requests")
    assert not passed_evidence(None, second, risk).held


def test_a_connection_alone_does_not_prove_that_a_fault_at_the_front_is_met(risk: Dependency) -> None:
    with application(risk.path):
        judged = Judged(risk, "status")
    assert not judged.no_path and not any(item.held for item in judged.evidence)
    (why,) = judged.unproven
    assert why.startswith("the target does not use risk through its front: 0 requests")


def test_the_application_past_the_front_is_named(risk: Dependency, service: Service) -> None:
    service.connect(risk.direct)
    answered(f"http://{risk.path}/")
    judged = Judged(risk, "status", service.info)
    (why,) = judged.unproven
    assert why.startswith("the target reaches risk past its front: 1 connection to ")


def test_a_doctor_says_whether_requests_pass_the_front(risk: Dependency) -> None:
    up = StackUp(name="external", target=TargetInfo(url="http://127.0.0.1:9"), dependencies=(risk,))
    (idle,) = watch(up, lambda: True)
    line = idle.line(sent=True, held_back=False)
    assert line.fact == "the target does not use risk through its front" and str(risk.path) in line.remedy
    (used,) = watch(up, lambda: answered(f"http://{risk.path}/")[0] == 200)
    assert used.line(sent=True, held_back=False).fact == "the application uses it through its front"


def test_a_front_that_cannot_be_asked_proves_nothing(risk: Dependency) -> None:
    gone = msgspec.structs.replace(risk, front=DependencyFront(url="http://127.0.0.1:9", name="risk"))
    judged = Judged(gone, "delay")
    (why,) = judged.unproven
    assert "no Envoy answers at http://127.0.0.1:9" in why
    assert "delay" in registered()
