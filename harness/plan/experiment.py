"""What a person asked for, not yet a plan: a record whose fields are the options of `run` and `plan`.

A row with an Option is all that an option needs: the command line, its variable, [run] of harness.toml and experiment
files are read by OPTIONS. docs/options.md lists them for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec

from harness.model.options import (
    COUNT,
    DURATION,
    EXPR,
    FLAG,
    HOST,
    NUMBER,
    PATH,
    Option,
    Unit,
    count,
    one_of,
    options_of,
)
from harness.model.records.alerts import AlertsPlan
from harness.model.records.load import Arrivals, Model
from harness.model.records.stack import StackName
from harness.plan.files.entries import Entry

REMOTE = "where workers are is said on the command line"
LEAVE = "leave to reach a host is given on the command line, never by the file itself"


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """None means "not given": the scenario, the stack or a built-in default decides.

    Durations in seconds, rate in arrivals per second (already as wanted: --rate is not scaled).
    faults, targets, abort_if: texts as written.
    extend: a phase may go on once where a target is met but not yet held; extend_fault: the fault's, too, where its
    length was given.
    The last seven are no options. timeline: the faults of an experiment file, beside `faults`.
    target_layers: targets of lower layers of settings (harness.toml, then the experiment file), each replacing those
    of the layers before with the same phase, metric and name; `targets` come last.
    may_fail_with: request name -> dependencies during whose faults it may fail; independent_of: those that it does
    not need.
    alerts: where alerts are seen, and which are expected.
    trace_url: where a trace is to be read, {trace_id} in it; "" where nobody said.
    cores: how many load processes this machine has room for.
    """

    # fmt: off
    faults: Annotated[tuple[str, ...], Option(Unit(name="FAULT"),
        "DEPENDENCY-KIND, for example redis-down, or kafka-latency:latency=500ms@10s+20s; `none` is a control run.",
        flag="--fault")] = ()
    scenario: Annotated[str, Option(Unit(name="NAME"), "Load shape: see `harness scenarios`.")] = "target"
    stack: Annotated[StackName, Option(one_of(StackName),
        "What the target runs on.",
        otherwise="embedded; external with --host or a [target] in harness.toml")] = "embedded"
    host: Annotated[str | None, Option(Unit(name="URL"), "An own target; means the external stack.",
        not_in_toml='write it as url in [target], for example url = "http://127.0.0.1:8000"')] = None
    scale: Annotated[float | None, Option(NUMBER,
        "Share of the full load.",
        otherwise="what --rate is of it; else 1 on the external stack, 0.02 on ours, which share this machine")] = None
    rate: Annotated[float | None, Option(NUMBER, "Arrivals per second (open model), not scaled.")] = None
    users: Annotated[int | None, Option(COUNT, "Virtual users, not scaled.", otherwise="the scenario's, scaled")] = None
    spawn_rate: Annotated[float | None, Option(NUMBER, "Users per second, not scaled.")] = None
    run_time_s: Annotated[float | None, Option(DURATION,
        "The scenario's run time; what is left of it bounds recovery.")] = None
    model: Annotated[Model | None, Option(one_of(Model), "open: arrivals on a schedule; closed: users that wait.",
        otherwise="open where the scenario has a rate")] = None
    arrivals: Annotated[Arrivals, Option(one_of(Arrivals), "How open-model arrivals are spread.")] = "poisson"
    max_in_flight: Annotated[int | None, Option(COUNT,
        "Most users at once in the open model.", otherwise="rate x request time-out")] = None
    request_timeout_s: Annotated[float, Option(DURATION,
        "Total time for a request, from sending to the last byte.")] = 10.0
    locustfile: Annotated[str | None, Option(PATH,
        "Locust files: one, a folder, or several with commas.", otherwise="the built-in anomaly API users")] = None
    user_classes: Annotated[tuple[str, ...], Option(Unit(name="NAME"),
        "Only these user classes.", flag="--user-class")] = ()
    tags: Annotated[tuple[str, ...], Option(Unit(name="TAG"), "Only tasks with one of these tags.", flag="--tag")] = ()
    exclude_tags: Annotated[tuple[str, ...], Option(Unit(name="TAG"),
        "No tasks with one of these tags.", flag="--exclude-tag")] = ()
    locust_args: Annotated[tuple[str, ...], Option(EXPR,
        "For an argument that the Locust file itself adds, for example --locust-arg=--tenant=blue.",
        flag="--locust-arg")] = ()
    warmup_s: Annotated[float, Option(DURATION, "After the ramp; not judged.")] = 10.0
    baseline_s: Annotated[float | None, Option(DURATION,
        "Healthy phase before the fault.", otherwise="60s; spike 30s")] = None
    fault_s: Annotated[float | None, Option(DURATION,
        "How long faults last that name no duration.", flag="--fault-for", otherwise="60s; spike 30s")] = None
    recovery_limit_s: Annotated[float | None, Option(DURATION,
        "Recovery must come within.", otherwise="what is left of the run time, at least 60s")] = None
    hold_s: Annotated[float | None, Option(DURATION,
        "How long targets must hold to count as recovered.", otherwise="15s and 1,000 arrivals")] = None
    soak_s: Annotated[float, Option(DURATION, "Watch this much longer after the hold.")] = 0.0
    extend: Annotated[bool, Option(FLAG,
        "End every phase as planned, also where a target is met but too little was seen to say that it holds.",
        flag="--no-extend")] = True
    extend_fault: Annotated[bool, Option(FLAG, "The fault's phase may go on too where its length was given.")] = False
    targets: Annotated[tuple[str, ...], Option(EXPR,
        "For example 'p95 < 200ms', 'fault: error_rate < 5%', '~p99 < 2x baseline'.", flag="--target",
        not_in_toml='write it in [targets], for example primary = ["p95 < 200ms"]')] = ()
    strict: Annotated[bool, Option(FLAG, "Secondary targets break the verdict too.")] = False
    abort_if: Annotated[tuple[str, ...], Option(EXPR,
        "Stop (FAIL with a proven fault), for example 'error_rate > 50% for 10s'.")] = ()
    trace: Annotated[bool, Option(FLAG,
        "Send requests without `traceparent` and `baggage`, by which traces of the target find them.",
        flag="--no-trace")] = True
    seed: Annotated[int | None, Option(COUNT, "Of the arrival schedule; printed with every result.")] = None
    workers: Annotated[int | None, Option(COUNT,
        "Load processes on this machine.", otherwise="one for every 1,000 requests/s, at most one a core")] = None
    metrics_port: Annotated[int | None, Option(count(1, 65535),
        "Serve what the run knows of itself to a Prometheus, on this port of 127.0.0.1.",
        not_in_file="a port of this machine is said on the command line")] = None
    remote_workers: Annotated[int, Option(COUNT,
        "Wait for so many `harness worker` of other machines; they make the load, with --workers of this one.",
        shown="none", not_in_file=REMOTE)] = 0
    master_bind_host: Annotated[str, Option(Unit(name="ADDRESS"),
        "Where to listen for them; 0.0.0.0 is everywhere. Each worker needs its key file of this run.",
        not_in_file=REMOTE)] = "127.0.0.1"
    master_port: Annotated[int, Option(COUNT, "The port to listen on for them.", not_in_file=REMOTE)] = 5557
    remote_wait_s: Annotated[float, Option(DURATION, "How long to wait for them.", not_in_file=REMOTE)] = 300.0
    allow_hosts: Annotated[tuple[str, ...], Option(HOST,
        "Allow load and faults on this host, which is not loopback.", flag="--allow-host", not_in_file=LEAVE)] = ()
    # fmt: on
    timeline: tuple[Entry, ...] = ()
    target_layers: tuple[tuple[str, ...], ...] = ()
    may_fail_with: dict[str, tuple[str, ...]] = {}
    independent_of: dict[str, tuple[str, ...]] = {}
    alerts: AlertsPlan | None = None
    trace_url: str = ""
    cores: int = 1


OPTIONS: Mapping[str, Option] = MappingProxyType(options_of(Experiment))
"""By field, in the order of help."""
