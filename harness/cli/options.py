"""The options that `run` and `plan` share, made from the table of harness/plan/experiment.py, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness import fault
from harness.cli.settings import Setting, Written, config_option, rank
from harness.dependencies import registry
from harness.model.cores import useful_cores
from harness.model.errors import UsageError
from harness.model.options import FLAG, Option
from harness.model.records.stack import StackName
from harness.plan.experiment import OPTIONS, Experiment

if TYPE_CHECKING:
    from harness.conductor.prepare import Planned
    from harness.config.file import Configuration
    from harness.model.records.alerts import AlertsPlan

OURS: tuple[StackName, ...] = ("embedded", "compose")
"""The stacks that the harness starts itself."""

F = TypeVar("F", bound=Callable[..., Any])

WITH_ALERTS = click.option(
    "--with-alerts",
    is_flag=True,
    help="With a Prometheus and an Alertmanager of PATH that look at the embedded stack's API.",
)


def experiment_options(command: F) -> F:
    """Add every option that says what experiment it is."""
    for option in reversed(list(OPTIONS.values())):
        command = _added(option)(command)
    return config_option(WITH_ALERTS(command))


def _added(option: Option) -> Callable[[F], F]:
    help_text = option.help + (" Repeatable." if option.many else "")
    settings: dict[str, Any] = {"is_flag": True}
    if option.unit is not FLAG:
        settings = {"type": Written(option.unit), "metavar": option.unit.name}
        settings["multiple"] = option.many
        if option.otherwise:
            help_text += f" [default: {option.otherwise}]"
        elif option.default_text:
            settings |= {"default": option.unit.show(option.default), "show_default": option.shown or True}
    return click.option(option.flag, option.key, cls=Setting, envvar=option.variable, help=help_text, **settings)


def choose_stack(values: dict[str, Any]) -> tuple[StackName, str | None]:
    """The stack, and the target's URL where it is the user's own.

    Of --host and --stack embedded (or compose) the one that was said more directly counts. Raises UsageError where both were, and
    where nothing names the target of the external stack.
    """
    host, stack = values["host"], values["stack"]
    config: Configuration | None = values.get("config")
    if host is not None and stack in OURS:
        if rank("host") == rank("stack"):
            raise UsageError(
                f"names your own target, --stack {stack} starts ours", hint="leave one of them out", field="host"
            )
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
            "external needs a target", hint="name it with --host URL, or in [target] of harness.toml", field="stack"
        )
    return "external", own


def decode(values: dict[str, Any]) -> Experiment:
    """What was asked for. Raises UsageError for options that contradict each other."""
    config: Configuration | None = values.get("config")
    asked = {field: option.value(values[option.key]) for field, option in OPTIONS.items()}
    asked["stack"], asked["host"] = choose_stack(values)
    return Experiment(
        **asked,
        timeline=values.get("timeline", ()),
        target_layers=(
            *((config.target_texts,) if config is not None and config.target_texts else ()),
            *values.get("target_layers", ()),
        ),
        may_fail_with=config.may_fail_with if config is not None else {},
        independent_of=config.independent_of if config is not None else {},
        alerts=_alerts(values, asked["stack"]),
        trace_url=config.report.trace_url if config is not None else "",
        cores=useful_cores(),
    )


def _alerts(values: dict[str, Any], stack: StackName) -> AlertsPlan | None:
    """Where alerts are seen: as harness.toml says, or by what the stack brings. Raises UsageError for both."""
    config: Configuration | None = values.get("config")
    declared = config.alerts if config is not None else None
    if not values.get("with_alerts"):
        return declared
    if stack != "embedded":
        raise UsageError(
            f"--with-alerts belongs to the embedded stack, and the target is on the {stack} one",
            hint="name the Prometheus that looks at it in [alerts] of harness.toml",
        )
    if declared is not None:
        raise UsageError(
            "--with-alerts: [alerts] in harness.toml names where alerts are seen already", hint="leave one of them out"
        )
    from harness.stack.embedded.alerting import wanted

    return wanted()


def plan_from(values: dict[str, Any]) -> Planned:
    """From decoded options to a plan: what `run` and `plan` do alike, before anything is touched. Raises UsageError."""
    from harness.conductor.prepare import prepare

    for what, wrong in (("fault", fault.unusable()), ("kind of dependency", registry.unusable())):
        for kind, why in wrong.items():
            click.echo(f"note: the {what} {kind} cannot be used: {why}", err=True)
    return prepare(decode(values), values.get("config"))
