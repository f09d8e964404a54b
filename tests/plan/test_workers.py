"""How many generators share the load: as asked for, or as the rate asks for, never more than there are cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.model.cores import useful_cores
from harness.model.errors import UsageError
from harness.model.records.load import LoadPlan, Locustfile, UserClass
from harness.plan.experiment import Experiment
from harness.plan.loadplan import load_plan, with_locustfile
from harness.plan.scenarios import SCENARIOS

CLASSES = (UserClass(name="Quick", wait_s=(0.1, 0.5)), UserClass(name="Calm", wait_s=(1.0, 3.0)))


def plan(host: str = "http://10.0.0.7:80", scenario: str = "target", **asked: Any) -> LoadPlan:
    request = Experiment(scenario=scenario, **{"stack": "external", **asked})
    file = Locustfile(path="x.py", sha256="ab" * 32, classes=CLASSES)
    chosen = SCENARIOS[scenario]
    return with_locustfile(load_plan(request, chosen, host=host, seed=1), request, chosen, file)


@pytest.mark.parametrize(
    ("rate", "cores", "workers"),
    [(20, 8, 1), (1000, 8, 1), (1001, 8, 2), (10_000, 32, 10), (10_000, 2, 2), (200_000, 1, 1)],
)
def test_one_worker_for_every_thousand_arrivals_and_at_most_one_a_core(rate: float, cores: int, workers: int) -> None:
    made = plan(rate=rate, cores=cores)
    assert (made.workers, made.local_workers) == (workers, workers)
    assert "1,000 requests/s" in made.workers_why
    assert (f"{cores} cores" in made.workers_why) == (rate / 1000 > cores)


def test_the_closed_model_counts_what_its_users_could_send_at_most() -> None:
    # 100 users that wait 0.3 s: 333 a second; 5,000 of two classes, 0.3 s and 2 s: 9,583 a second.
    assert plan(scenario="stress", users=100, cores=16).workers == 1
    assert plan(scenario="spike", users=5000, cores=16).workers == 10
    assert plan(scenario="spike", users=5000, cores=4).workers == 4


def test_what_was_asked_for_is_what_is_made() -> None:
    made = plan(rate=10_000, workers=3, cores=2)
    assert (made.workers, made.workers_why) == (3, "asked for")
    for wrong in (0, -1, 257):
        with pytest.raises(UsageError, match=f"workers {wrong} is out of range"):
            plan(workers=wrong)


def test_remote_workers_make_the_load_alone_unless_local_ones_are_asked_for() -> None:
    alone = plan(rate=10_000, cores=8, remote_workers=3, master_bind_host="10.0.0.5")
    assert (alone.workers, alone.local_workers) == (3, 0)
    assert alone.remote is not None and alone.remote.bind_host == "10.0.0.5" and alone.remote.port == 5557
    assert alone.locustfile_sha256 == "ab" * 32
    both = plan(workers=2, remote_workers=3)
    assert (both.workers, both.local_workers) == (5, 2)
    assert both.remote is not None and both.remote.bind_host == "127.0.0.1", "elsewhere only when it is said"
    assert plan(workers=0, remote_workers=1).workers == 1
    for asked, said in (("fd00::5", "fd00::5"), ("[fd00::5]", "fd00::5"), ("::", "::")):
        remote = plan(remote_workers=1, host="http://10.0.0.7", master_bind_host=asked).remote
        assert remote is not None and remote.bind_host == said


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"remote_workers": -1}, "remote_workers -1"),
        ({"remote_workers": 1, "master_port": 0}, "master_port 0"),
        ({"remote_workers": 1, "master_bind_host": "everywhere"}, "no IP address"),
        ({"remote_workers": 1, "remote_wait_s": 0.0}, "remote_wait_s 0s"),
    ],
)
def test_what_cannot_be_is_refused_before_the_run(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan(**asked)


@pytest.mark.parametrize("host", ["http://127.0.0.1:80", "http://localhost:80", "http://[::1]:80"])
def test_other_machines_cannot_load_a_target_on_loopback(host: str) -> None:
    with pytest.raises(UsageError, match="loopback"):
        plan(host=host, remote_workers=1, master_bind_host="0.0.0.0")
    with pytest.raises(UsageError, match="loopback"):
        plan(host="", stack="embedded", remote_workers=1, master_bind_host="10.0.0.5")
    assert plan(host=host, remote_workers=1).remote is not None, "a worker on this machine can"


def test_a_containers_quota_bounds_the_cores(tmp_path: Path) -> None:
    everything = useful_cores(tmp_path)
    assert everything >= 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert useful_cores(tmp_path) == everything
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert useful_cores(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert useful_cores(tmp_path) == everything
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert useful_cores(tmp_path) == 1
