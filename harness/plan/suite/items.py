"""One experiment of a suite as it was asked for, and how it becomes an Experiment of its own."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from harness.model.errors import UsageError
from harness.model.jsonl import encode
from harness.model.records.plan import Plan
from harness.plan.experiment import Experiment
from harness.plan.files.entries import Entry, FaultEntry

BASELINE_S = 20.0
FAULT_S = 15.0
"""Of an experiment that says nothing: at 200 requests a second enough to decide every default target."""
CONTROL = "control"
LOAD_FIELDS = ("scenario", "scale", "rate", "users", "spawn_rate")
"""What an experiment of a suite may say of its load, which is its own then."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """name: unique in the suite. entries: its faults. targets: its own, beside those of the suite. may_fail: requests
    that are expected to fail while its faults are on; must_hold: those that are not. expected_alerts: beside those that
    all experiments expect. settings: fields of Experiment that it sets itself. weight: in the score.
    """

    name: str
    entries: tuple[Entry, ...]
    targets: tuple[str, ...] = ()
    may_fail: tuple[str, ...] = ()
    must_hold: tuple[str, ...] = ()
    expected_alerts: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    weight: float = 1.0

    @property
    def own_load(self) -> bool:
        """It says itself how many requests or users there are."""
        return bool(self.settings.keys() & set(LOAD_FIELDS))


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that a suite leaves out, and why."""

    name: str
    why: str


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """name: for people. profile: what it was made from; empty where a file lists everything. shared: settings of all
    its experiments, by field of Experiment."""

    name: str
    profile: str
    items: tuple[Item, ...]
    left: tuple[Left, ...] = ()
    shared: dict[str, Any] = {}


def one(name: str, *faults: str, **rest: Any) -> Item:
    """An experiment of faults in the grammar of --fault."""
    return Item(name=name, entries=tuple(FaultEntry(where=name, fault=text) for text in faults), **rest)


def experiment_of(item: Item, shared: Experiment) -> Experiment:
    """What `run` would be asked for, but for what is expected to fail and to hold. shared: the settings of all. Raises
    UsageError for an alert that nobody would see."""
    alerts = shared.alerts
    if item.expected_alerts and alerts is None:
        raise UsageError(
            f"nobody looks at alerts, as the expected alert {item.expected_alerts[0]!r} needs",
            hint='[alerts] in harness.toml, and prometheus = "http://127.0.0.1:9090" in it',
        )
    if alerts is not None:
        expected = tuple(dict.fromkeys((*alerts.expected, *item.expected_alerts)))
        alerts = msgspec.structs.replace(alerts, expected=expected)
    chosen = {
        "baseline_s": shared.baseline_s if shared.baseline_s is not None else BASELINE_S,
        "fault_s": shared.fault_s if shared.fault_s is not None else FAULT_S,
        **item.settings,
    }
    if "scenario" in item.settings:
        # What all say of another scenario's load is not meant for this one.
        shared = msgspec.structs.replace(shared, rate=None, users=None, spawn_rate=None, model=None)
    return msgspec.structs.replace(
        shared,
        faults=(),
        timeline=item.entries,
        target_layers=(*shared.target_layers, shared.targets),
        targets=item.targets,
        alerts=alerts,
        **chosen,
    )


def definition(plan: Plan) -> str:
    """Hash of what an experiment is: faults, lengths, targets and what may fail; not when, where and on what load."""
    what = (
        [(fault.id, fault.spec.kind, fault.change.params, fault.at_s, fault.for_s) for fault in plan.faults],
        msgspec.to_builtins(plan.phases),
        [(target.text, target.primary) for target in plan.targets],
        plan.may_fail_with,
        plan.abort_if,
    )
    return hashlib.sha256(encode(what)).hexdigest()[:16]


def load_of(plan: Plan) -> str:
    """Hash of what is sent: scenario, rate or users, mix and locustfile."""
    load = plan.load
    mix = [(one.name, one.weight, [(task.name, task.share) for task in one.tasks]) for one in load.classes]
    what = (plan.scenario.name, load.model, load.rate, load.users, load.locustfile_sha256, mix, *load.locust_args)
    return hashlib.sha256(encode(what)).hexdigest()[:16]
