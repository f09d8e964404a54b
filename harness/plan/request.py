"""What a person asked for: the options of `run` and `plan`, decoded but not yet a plan."""

from __future__ import annotations

import msgspec

from harness.model.records.load import Arrivals, Model
from harness.model.records.stack import StackName
from harness.plan.files.entries import Entry


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """None means "not given": the scenario, the stack or a built-in default decides.

    Durations in seconds, rate in arrivals per second (already as wanted: --rate is not scaled).
    faults, targets, abort_if: texts as written. timeline: the faults of an experiment file, beside `faults`.
    extend: a phase may go on once where a target is met but not yet held; extend_fault: the fault's, too, where its
    length was given.
    may_fail_with: request name -> dependencies during whose faults it may fail.
    target_layers: targets of lower layers of settings (harness.toml, then the experiment file), each replacing those
    of the layers before with the same phase, metric and name; `targets` come last.
    workers: load processes on this machine. cores: how many of them it has room for.
    """

    scenario: str
    stack: StackName
    faults: tuple[str, ...] = ()
    timeline: tuple[Entry, ...] = ()
    host: str | None = None
    scale: float | None = None
    rate: float | None = None
    users: int | None = None
    spawn_rate: float | None = None
    run_time_s: float | None = None
    model: Model | None = None
    arrivals: Arrivals = "poisson"
    max_in_flight: int | None = None
    request_timeout_s: float = 10.0
    user_classes: tuple[str, ...] = ()
    warmup_s: float = 10.0
    baseline_s: float | None = None
    fault_s: float | None = None
    recovery_limit_s: float | None = None
    hold_s: float | None = None
    soak_s: float = 0.0
    extend: bool = True
    extend_fault: bool = False
    targets: tuple[str, ...] = ()
    target_layers: tuple[tuple[str, ...], ...] = ()
    abort_if: tuple[str, ...] = ()
    may_fail_with: dict[str, tuple[str, ...]] = {}
    strict: bool = False
    seed: int | None = None
    workers: int | None = None
    cores: int = 1
    remote_workers: int = 0
    master_bind_host: str = "127.0.0.1"
    master_port: int = 5557
    remote_wait_s: float = 300.0
