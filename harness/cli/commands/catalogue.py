"""`harness faults` and `harness scenarios`: the catalogues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.cli.settings import config_option

if TYPE_CHECKING:
    from harness.config.file import Configuration
    from harness.model.records.faults import Dependency


class _ControlRun:
    """`--fault none` is no kind of fault, and people look for it among them all the same."""

    summary = "nothing: the control run, with the same phases and the same verdict"
    undo_summary = "there is nothing to undo"
    proof_summary = "there is nothing to prove"
    params = ()
    one_shot = False


@click.command()
@click.argument("name", required=False)
@config_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def faults(name: str | None, config: Configuration | None, as_json: bool) -> int:
    """List the kinds of fault, or show one: NAME is a kind (`latency`) or a fault (`redis-latency`).

    For the dependencies of the embedded stack, or for those of harness.toml where it declares a target.
    """
    from harness.fault import registered, unusable
    from harness.model.errors import unknown
    from harness.plan.fault_text import NONE, bounds
    from harness.plan.suite.profile import possible

    kinds: dict[str, Any] = dict(sorted({**registered(), NONE: _ControlRun}.items()))
    for kind, why in unusable().items():
        click.echo(f"note: the fault {kind} cannot be used: {why}", err=True)
    stack, dependencies = _described(config)
    where = {
        kind: [d.name for d in dependencies if kind != NONE and possible(fault, d, told=True)]
        for kind, fault in kinds.items()
    }
    if name is not None and name not in kinds:
        found = [kind for kind in kinds if any(name == f"{d}-{kind}" for d in where[kind])]
        if not found:
            raise unknown("fault", name, [*kinds, *(f"{d}-{k}" for k in kinds for d in where[k])])
        name = found[0]
    chosen = kinds if name is None else {name: kinds[name]}
    if as_json:
        import msgspec

        rows = [_row(kind, fault, where[kind]) for kind, fault in chosen.items()]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return 0
    for kind, fault in chosen.items():
        click.echo(f"{kind}\n  {fault.summary}")
        names = ", ".join(f"{d}-{kind}" for d in where[kind]) or (NONE if kind == NONE else "")
        click.echo(f"  faults   {names or f'not on the {stack} stack'}")
        for info in fault.params:
            allowed = ", ".join(info.choices)
            if info.low is not None or info.high is not None:
                allowed = bounds(info)
            click.echo(f"  {f'{info.name}={info.default}':<17} {info.unit}{allowed and f' ({allowed})'}: {info.help}")
        click.echo(f"  undo     {fault.undo_summary}\n  proof    {fault.proof_summary}\n")
    return 0


def _described(config: Configuration | None) -> tuple[str, tuple[Dependency, ...]]:
    """The stack that a run without options would be on, and its dependencies."""
    from harness.stack.embedded import EmbeddedStack
    from harness.stack.external.stack import ExternalStack

    if config is None or config.target is None or config.run.get("stack") == "embedded":
        return "embedded", EmbeddedStack().describe()
    return "external", ExternalStack(config.target.url, configuration=config).describe()


def _row(kind: str, fault: Any, dependencies: list[str]) -> dict[str, Any]:
    return {
        "kind": kind,
        "summary": fault.summary,
        "faults": [f"{dependency}-{kind}" for dependency in dependencies],
        "params": [
            {name: getattr(info, name) for name in ("name", "unit", "default", "help", "choices", "low", "high")}
            for info in fault.params
        ],
        "one_shot": fault.one_shot,
        "undo": fault.undo_summary,
        "proof": fault.proof_summary,
    }


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def scenarios(name: str | None, as_json: bool) -> int:
    """List the scenarios, or show one."""
    from harness.model.units import format_duration
    from harness.plan.loadplan import LOCAL_SCALE, MIN_RATE, MIN_USERS
    from harness.plan.planner import find_scenario
    from harness.plan.scenarios import SCENARIOS

    chosen = list(SCENARIOS.values()) if name is None else [find_scenario(name)]
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(chosen), indent=2).decode())
        return 0
    for s in chosen:
        rate = f"{s.rate:,.0f} RPS, open model" if s.rate is not None else "closed model, as fast as it goes"
        local = f"{max(MIN_USERS, round(s.users * LOCAL_SCALE)):,} users"
        if s.rate is not None:
            local += f", {max(MIN_RATE, s.rate * LOCAL_SCALE):,.0f} RPS"
        click.echo(f"{s.name}\n  {s.summary}")
        click.echo(f"  users    {s.users:,} at {s.spawn_rate:,.0f}/s")
        click.echo(f"  load     {rate}, {format_duration(s.run_time_s)}")
        click.echo(f"  classes  {', '.join(s.user_classes) or 'all of the locustfile'}")
        click.echo(f"  at {LOCAL_SCALE:.0%}    {local} (the embedded stack's default scale)\n")
    return 0
