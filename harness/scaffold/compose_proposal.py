"""What `harness init` proposes for a compose project: the files, who goes through the proxy, who does not and why."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.scaffold import configuration_file, proxy_override
from harness.scaffold.compose_config import OVERRIDE, Composed, ask, composed
from harness.scaffold.compose_services import ENVOY, OURS, meant, ours, project_of
from harness.scaffold.connections import Refused
from harness.scaffold.front import Front, plan_front, says
from harness.scaffold.one_line import one_line
from harness.scaffold.target import Choice, choose
from harness.scaffold.written_files import TOML


class ComposeProposal(msgspec.Struct, frozen=True, kw_only=True):
    """files: path -> text; harness.toml and, where there is none, a locustfile in this folder, the others beside the
    compose files. told: sentences without a full stop. refused: connections that are not led through. up, down:
    commands."""

    files: dict[str, str]
    told: tuple[str, ...]
    refused: tuple[Refused, ...]
    front: Front
    choice: Choice
    up: str | None = None
    down: str | None = None

    @property
    def toml(self) -> str:
        return self.files[TOML]

    @property
    def locustfile(self) -> str:
        return configuration_file.locustfile(self.choice)

    @property
    def override(self) -> str | None:
        return self.files.get(proxy_override.beside_compose(self.front, OVERRIDE))

    @property
    def proxies(self) -> str | None:
        return self.files.get(proxy_override.beside_compose(self.front, proxy_override.PROXIES))


def compose_proposal(
    files: tuple[str, ...] = (),
    *,
    profiles: tuple[str, ...] = (),
    chosen: tuple[str, ...] = (),
    apps: tuple[str, ...] = (),
    command: str = "harness init",
) -> ComposeProposal:
    """Nothing is written or started. chosen: stores to front, () = all that the application uses. command: how this
    was asked for, for comments. Raises UsageError."""
    found = composed(files, profiles)
    front = plan_front(project_of(found), chosen, apps)
    choice = choose(front)
    written = {TOML: configuration_file.for_project(front, choice)}
    if not Path(configuration_file.LOCUSTFILE).exists():
        written[configuration_file.LOCUSTFILE] = configuration_file.locustfile(choice)
    up = down = None
    told = says(front)
    if front.fronted:
        text = proxy_override.override(front, command)
        told.append(_checked(found, front, text))
        written[proxy_override.beside_compose(front, OVERRIDE)] = text
        written[proxy_override.beside_compose(front, proxy_override.PROXIES)] = proxy_override.proxies(front)
        if front.http:
            written[proxy_override.beside_compose(front, proxy_override.FRONTS)] = proxy_override.fronts(front)
        up = proxy_override.compose_command(front, "up", "-d")
        down = proxy_override.compose_command(front, "up", "-d", "--remove-orphans", override=False)
    if choice.service is not None:
        told.append(f"the target is {choice.service.name}")
    elif choice.others:
        told.append(f"the target may be {' or '.join(one.name for one in choice.others)}: say which in {TOML}")
    else:
        told.append(f"no service of the application publishes a port for HTTP: say in {TOML} where the target is")
    return ComposeProposal(
        files=written,
        told=tuple(map(one_line, told)),
        refused=front.refused,
        front=front,
        choice=choice,
        up=up,
        down=down,
    )


def _checked(found: Composed, front: Front, override: str) -> str:
    """Compose reads its files with the override: every name that was to lead to Toxiproxy does, and all others mean
    what they meant. Raises UsageError."""
    if found.asked is None:
        return "no Compose is here that could check the override"
    model = ask(found, override=override)
    after = project_of(msgspec.structs.replace(found, model=model), all_of_it=True)
    for name, links in front.links.items():
        for alias, address in links.items():
            if meant(after.services, after.services[name], alias) != {address}:
                raise UsageError(
                    f"compose file {found.files[0]}: with the override {alias} does not lead to Toxiproxy for {name}"
                )
    before = front.project.services
    for name, service in before.items():
        owner = front.project.owner(service)
        if owner is None:
            continue
        led = front.links.get(owner.name, {})
        for other in before.values():
            for alias in set(other.names) - set(led):
                if meant(before, owner, alias) != meant(after.services, after.services[owner.name], alias):
                    raise UsageError(
                        f"compose file {found.files[0]}: with the override {alias} means another service for {name}"
                    )
    for one in front.fronted:
        through = ENVOY if any(proxy.front is not None for proxy in one.proxies) else OURS
        if through in after.services and meant(after.services, after.services[through], one.service.name) != {
            one.service.name
        }:
            raise UsageError(
                f"{one.service.name} cannot be led through {through}: on its networks that name means others as well",
                hint="give the services names and aliases of their own",
            )
    added = (*front.addresses, *((ENVOY,) if front.http else ()))
    missing = [name for name in added if name not in after.services]
    if missing or not any(map(ours, after.services)):
        raise UsageError(f"compose file {found.files[0]}: with the override there is no {missing[0]}")
    return f"{' '.join(found.asked.argv)} takes the override, and by its model each name leads where it is to"
