"""The user's own HTTP upstream behind an Envoy, as harness.toml declares it: bound, and refused where it is not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dependencies.configuration import load
from harness.doctor.parts import part_lines
from harness.model.errors import UsageError
from harness.model.records.faults import Dependency
from harness.stack.external.check import look
from harness.stack.external.stack import ExternalStack
from tests.support.servers.envoy import HttpUpstream, fronted, set_runtime, upstream
from tests.support.servers.real import SubprocessLauncher

pytestmark = pytest.mark.stack

FILE = """
[target]
url = "http://{at}"
metrics = ""

[dependencies.payments]
kind = "http"
health = "/ok"
path = "{path}"
front = "{front}"
front_name = "risk"
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[HttpUpstream]:
    with upstream() as server:
        yield server


@pytest.fixture(scope="module")
def risk(_launcher: SubprocessLauncher, backend: HttpUpstream) -> Iterator[Dependency]:
    with fronted(_launcher, backend.address) as (dependency, _):
        yield dependency


def bound(folder: Path, **words: object) -> Dependency:
    file = folder / "harness.toml"
    file.write_text(FILE.format(**words))
    configuration = load(file)
    assert configuration.target is not None
    up = ExternalStack(configuration.target.url, configuration=configuration).up(None, print)  # type: ignore[arg-type]
    return next(one for one in up.dependencies if one.name == "payments")


def test_a_declared_front_is_bound_and_what_is_on_it_refused(
    tmp_path: Path, risk: Dependency, backend: HttpUpstream
) -> None:
    assert risk.front is not None
    address = risk.front.url.replace("127.0.0.1", "localhost")
    found = bound(tmp_path, at=backend.address, path=risk.path, front=address)
    assert found.front == risk.front, "its name is resolved once"
    assert (found.path, found.url, found.proxied) == (risk.path, f"http://{risk.path}/ok", False)
    configuration = load(tmp_path / "harness.toml")
    seen = look(configuration, f"http://{backend.address}", allow_hosts=())
    part = next(one for one in seen.parts if one.name == "payments")
    assert (part.path, part.front, part.trouble) == (str(risk.path), risk.front.url, None)
    line = next(one for one in part_lines(seen, configuration, "target") if one.about == "payments")
    assert line.fact == "it answers through its Envoy" and f"{risk.path} and {risk.front.url}" in line.evidence
    set_runtime(risk, "harness.risk.delay.percent=10")
    try:
        with pytest.raises(UsageError, match=r"payments\.front: the front risk of Envoy at .* has runtime keys set"):
            bound(tmp_path, at=backend.address, path=risk.path, front=address)
    finally:
        set_runtime(risk, "harness.risk.delay.percent=")
    with pytest.raises(UsageError, match=r"payments: no Envoy answers at http://127\.0\.0\.1:9"):
        bound(tmp_path, at=backend.address, path=risk.path, front="http://127.0.0.1:9")
    with pytest.raises(UsageError, match="does not answer like Envoy"):
        bound(tmp_path, at=backend.address, path=risk.path, front=f"http://{backend.address}")
    with pytest.raises(UsageError, match=r"payments\.path: requests to .* do not pass the front risk"):
        bound(tmp_path, at=backend.address, path=backend.address, front=address)
