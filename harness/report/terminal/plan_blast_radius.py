"""What a run will touch and nothing else: for `harness plan`, from the plan alone."""

from __future__ import annotations

from collections.abc import Iterable

from harness.dependencies.registry import kind_of
from harness.model.records.faults import HARMFUL, Dependency
from harness.model.records.plan import Plan
from harness.report.sentences.text import visible

OUR_VARIABLES = "HARNESS_"
"""Passwords of its own servers the harness draws, and knows, itself."""


def blast_radius(plan: Plan) -> str:
    """The target, what is changed, the addresses spoken to, the locks, and what the undo needs. Plain text."""
    changed = {fault.change.dependency.name: fault.change.dependency for fault in plan.faults}
    lines = ["Blast radius: nothing else is touched", f"  load       {plan.load.host or 'its own sample API'}"]
    if plan.load.host:
        lines[-1] += "; requests to other hosts fail, unsent"
        if plan.load.allow_hosts:
            lines[-1] += f" (but to {', '.join(plan.load.allow_hosts)}: --allow-host)"
    lines += [f"  changed    {line}" for line in _changed(plan)]
    own = bool(plan.load.host)
    lines += [f"  reached    {name}: {line}" for name, each in changed.items() for line in _reached(each, own)]
    lines += [f"  left out   {name}: {line}" for name, each in changed.items() for line in _left_out(each)]
    lines += [f"  locked     {line}" for line in _locks(plan, changed.values())]
    lines += [f"  undo       {line}" for line in _needs(changed.values())]
    lines += [
        f"  lost       {fault.id}: {fault.change.undoes}" for fault in plan.faults if HARMFUL & {*fault.change.traits}
    ]
    return "\n".join(visible(line, 400) for line in lines)


def _changed(plan: Plan) -> list[str]:
    found = [fault.change.property or resource for fault in plan.faults for resource in fault.change.resources or ("",)]
    return list(dict.fromkeys(line for line in found if line)) or ["nothing: a control run"]


def _reached(dependency: Dependency, own: bool) -> list[str]:
    """own: it is the user's own, whose addresses are known before the run."""
    led = "front" if dependency.front is not None and not dependency.proxied else "proxy"
    found = [f"its {led}'s listener {dependency.path}"] if dependency.path is not None else []
    if dependency.proxy.url is not None:
        found.append(f"Toxiproxy {dependency.proxy.url}, proxy {dependency.proxy.name}")
    if dependency.front is not None and dependency.front.url is not None:
        found.append(f"Envoy {dependency.front.url}, front {dependency.front.name}")
    if dependency.direct is not None:
        found.append(f"the server itself {dependency.direct}")
    if dependency.url is not None:
        found.append(dependency.url)
    if own:
        if (name := dependency.container.name) is not None:
            found.append(f"its container {name}, by the Docker engine {dependency.container.engine or ''}".rstrip())
        elif dependency.process.pid_file is not None:
            found.append(f"its process, by {dependency.process.pid_file}")
        return found or ["no address of its own"]
    return found or ["on loopback, ports are chosen when the stack starts"]


def _left_out(dependency: Dependency) -> list[str]:
    if not dependency.ignore_clients:
        return []
    names = ", ".join(dependency.ignore_clients)
    return [f"{names} may go past the proxy: not the application's clients, as harness.toml says"]


def _locks(plan: Plan, changed: Iterable[Dependency]) -> list[str]:
    if not plan.load.host:
        return ["nothing: the stack is this run's own"]
    found = ["the target and each server that is changed, on this machine"]
    for dependency in changed:
        if dependency.proxy.url is not None and dependency.proxied:
            found.append(f"Toxiproxy {dependency.proxy.url}, for every machine: a disabled proxy named harness-lock")
    for fault in plan.faults:
        if "changes_server" in fault.change.traits and fault.change.dependency.credentials.admin is not None:
            one = fault.change.dependency
            found.append(f"{kind_of(one).server} {one.name}, for every machine: an advisory lock")
    return list(dict.fromkeys(found))


def _needs(changed: Iterable[Dependency]) -> list[str]:
    """Logins and variables that undo or verification need: without them `harness heal` cannot finish."""
    found = []
    for dependency in changed:
        names = {
            dependency.credentials.password_env: "password",
            dependency.credentials.admin_password_env: "admin password",
            dependency.credentials.probe_password_env: "probe's password",
            dependency.credentials.pooler_password_env: "PgBouncer's password",
        }
        found += [
            f"needs the variable {name}: {dependency.name}'s {what}"
            for name, what in names.items()
            if name and not name.startswith(OUR_VARIABLES)
        ]
        if dependency.credentials.admin is not None:
            found.append(f"logs in to {dependency.name} with its admin login")
        if dependency.process.start_config is not None:
            found.append(f"starts {dependency.name} again as {dependency.process.start_config} says")
    return found
