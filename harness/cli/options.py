"""The options that `run` and `plan` share, and their decoding into a RunRequest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.cli.settings import ALLOWED_HOST, Setting, config_option, rank
from harness.model import units
from harness.model.cores import useful_cores
from harness.model.errors import UsageError
from harness.model.records.stack import StackName
from harness.plan.request import RunRequest

if TYPE_CHECKING:
    from harness.config.file import Configuration

OURS: tuple[StackName, ...] = ("embedded", "compose")
"""The stacks that the harness starts itself."""

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """Seconds from `300ms`, `20s`, `1m30s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return units.parse_duration(str(value))
        except UsageError as error:
            label = f"{param.opts[0]}: " if param is not None else ""
            raise UsageError(f"{label}{error}", hint=error.hint) from error


DURATION = Duration()


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option that can also be set by HARNESS_<NAME>, except where a list's values hold spaces."""
    if names[0] in ("--target", "--abort-if"):
        return click.option(*names, cls=Setting, **settings)
    return click.option(
        *names, cls=Setting, envvar="HARNESS_" + names[0].lstrip("-").replace("-", "_").upper(), **settings
    )


EXPERIMENT_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _option(
        "--fault",
        "faults",
        multiple=True,
        metavar="FAULT",
        help="DEPENDENCY-KIND, for example redis-down, or kafka-latency:latency=500ms@10s+20s; `none` is a control run. Repeatable.",
    ),
    _option(
        "--scenario", default="target", show_default=True, metavar="NAME", help="Load shape: see `harness scenarios`."
    ),
    _option(
        "--stack",
        type=click.Choice(["embedded", "compose", "external"]),
        help="What the target runs on. [default: embedded; external with --host or a [target] in harness.toml]",
    ),
    _option("--host", metavar="URL", help="An own target; means the external stack."),
    _option(
        "--scale",
        type=float,
        help="Share of the full load. [default: 1 on the external stack, 0.02 on ours, which share this machine]",
    ),
    _option("--rate", type=float, help="Arrivals per second (open model), not scaled."),
    _option("--users", type=int, help="Virtual users, not scaled."),
    _option("--spawn-rate", type=float, help="Users per second, not scaled."),
    _option("--run-time", type=DURATION, help="The scenario's run time; what is left of it bounds recovery."),
    _option(
        "--model",
        type=click.Choice(["open", "closed"]),
        help="open: arrivals on a schedule; closed: users that wait. [default: open where the scenario has a rate]",
    ),
    _option(
        "--arrivals",
        type=click.Choice(["poisson", "constant"]),
        default="poisson",
        show_default=True,
        help="How open-model arrivals are spread.",
    ),
    _option(
        "--max-in-flight", type=int, help="Most users at once in the open model. [default: rate x request time-out]"
    ),
    _option(
        "--request-timeout",
        type=DURATION,
        default="10s",
        show_default=True,
        help="Total time for a request, from sending to the last byte.",
    ),
    _option("--locustfile", metavar="FILE", help="Any Locust file. [default: the built-in anomaly API users]"),
    _option("--user-class", "user_classes", multiple=True, metavar="NAME", help="Only these user classes. Repeatable."),
    _option("--warmup", type=DURATION, default="10s", show_default=True, help="After the ramp; not judged."),
    _option("--baseline", type=DURATION, help="Healthy phase before the fault. [default: 60s; spike 30s]"),
    _option("--fault-for", type=DURATION, help="How long faults last that name no duration. [default: 60s; spike 30s]"),
    _option(
        "--recovery-limit",
        type=DURATION,
        help="Recovery must come within. [default: what is left of the run time, at least 60s]",
    ),
    _option(
        "--hold",
        type=DURATION,
        help="How long targets must hold to count as recovered. [default: 15s and 1,000 arrivals]",
    ),
    _option("--soak", type=DURATION, default="0s", show_default=True, help="Watch this much longer after the hold."),
    _option(
        "--no-extend",
        is_flag=True,
        help="End every phase as planned, also where a target is met but too little was seen to say that it holds.",
    ),
    _option("--extend-fault", is_flag=True, help="The fault's phase may go on too where its length was given."),
    _option(
        "--target",
        "targets",
        multiple=True,
        metavar="EXPR",
        help="For example 'p95 < 200ms', 'fault: error_rate < 5%', '~p99 < 2x baseline'. Repeatable.",
    ),
    _option("--strict", is_flag=True, help="Secondary targets break the verdict too."),
    _option(
        "--abort-if",
        multiple=True,
        metavar="EXPR",
        help="Stop (FAIL with a proven fault), for example 'error_rate > 50% for 10s'. Repeatable.",
    ),
    _option("--seed", type=int, help="Of the arrival schedule; printed with every result."),
    _option(
        "--workers",
        type=int,
        help="Load processes on this machine. [default: one for every 1,000 requests/s, at most one a core]",
    ),
    _option(
        "--remote-workers",
        type=int,
        default=0,
        show_default="none",
        help="Wait for so many `harness worker` of other machines; they make the load, with --workers of this one.",
    ),
    _option(
        "--master-bind-host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Where to listen for them; 0.0.0.0 is everywhere. Each worker needs its key file of this run.",
    ),
    _option("--master-port", type=int, default=5557, show_default=True, help="The port to listen on for them."),
    _option("--remote-wait", type=DURATION, default="5m", show_default=True, help="How long to wait for them."),
    _option(
        "--allow-host",
        "allow_hosts",
        multiple=True,
        type=ALLOWED_HOST,
        metavar="HOST",
        help="Allow load and faults on this host, which is not loopback. Repeatable.",
    ),
)


def experiment_options(command: F) -> F:
    """Add every option that says what experiment it is."""
    for option in reversed(EXPERIMENT_OPTIONS):
        command = option(command)
    return config_option(command)


def choose_stack(values: dict[str, Any]) -> tuple[StackName, str | None]:
    """The stack, and the target's URL where it is the user's own.

    Of --host and --stack embedded (or compose) the one that was said more directly counts. Raises UsageError where both were, and
    where nothing names the target of the external stack.
    """
    host, stack = values["host"], values["stack"]
    config: Configuration | None = values.get("config")
    if host is not None and stack in OURS:
        if rank("host") == rank("stack"):
            raise UsageError(f"--host names your own target, --stack {stack} starts ours", hint="leave one of them out")
        if rank("host") > rank("stack"):
            stack = None
        else:
            host = None
    own = host if host is not None else (config.target.url if config is not None and config.target else None)
    if stack in OURS:
        return stack, None
    if stack is None and own is None:
        return "embedded", None
    if own is None:
        raise UsageError(
            "--stack external needs a target", hint="name it with --host URL, or in [target] of harness.toml"
        )
    return "external", own


def decode(values: dict[str, Any]) -> RunRequest:
    """The RunRequest of decoded click values. Raises UsageError for options that contradict each other."""
    stack, host = choose_stack(values)
    config: Configuration | None = values.get("config")
    return RunRequest(
        scenario=values["scenario"],
        stack=stack,
        faults=tuple(values["faults"]),
        timeline=values.get("timeline", ()),
        host=host,
        scale=values["scale"],
        rate=values["rate"],
        users=values["users"],
        spawn_rate=values["spawn_rate"],
        run_time_s=values["run_time"],
        model=values["model"],
        arrivals=values["arrivals"],
        max_in_flight=values["max_in_flight"],
        request_timeout_s=values["request_timeout"],
        user_classes=tuple(values["user_classes"]),
        warmup_s=values["warmup"],
        baseline_s=values["baseline"],
        fault_s=values["fault_for"],
        recovery_limit_s=values["recovery_limit"],
        hold_s=values["hold"],
        soak_s=values["soak"],
        extend=not values["no_extend"],
        extend_fault=values["extend_fault"],
        targets=tuple(values["targets"]),
        target_layers=(
            *((config.target_texts,) if config is not None and config.target_texts else ()),
            *values.get("target_layers", ()),
        ),
        abort_if=tuple(values["abort_if"]),
        may_fail_with=config.may_fail_with if config is not None else {},
        strict=values["strict"],
        seed=values["seed"],
        workers=values["workers"],
        cores=useful_cores(),
        remote_workers=values["remote_workers"],
        master_bind_host=values["master_bind_host"],
        master_port=values["master_port"],
        remote_wait_s=values["remote_wait"],
    )
