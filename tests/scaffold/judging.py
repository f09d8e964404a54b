"""Is what `harness init` proposes for a project right, refused or wrong? By the model that Compose makes with it.

Whom a name means is worked out here anew, from that model alone, as Docker does it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Literal

from harness.config.load import parse
from harness.dependencies.registry import tables
from harness.model.errors import UsageError
from harness.scaffold.compose_config import ask
from harness.scaffold.compose_proposal import ComposeProposal, compose_proposal
from tests.scaffold.projects import Case

Verdict = Literal["right", "refused", "wrong"]
OURS = "harness-toxiproxy"


def judge(case: Case) -> tuple[Verdict, list[str]]:
    """And why it is no more than that."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, text in case.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if "compose.yaml" not in case.given:
            Path("compose.yaml").unlink()
        try:
            found = compose_proposal(case.given, profiles=case.profiles)
        except UsageError as error:
            return "refused", [str(error)]
        wrong = [*_wrong_connections(case, found), *_wrong_files(case, found)]
        if wrong:
            return "wrong", wrong
        refused = [f"{one.client} -> {one.store}: {one.why}" for one in found.refused]
        return ("refused", refused) if refused else ("right", [])


def _wrong_connections(case: Case, found: ComposeProposal) -> list[str]:
    model = (
        ask(found.front.project.composed, override=found.override)
        if found.override
        else found.front.project.composed.model
    )
    wrong = []
    refused = {(one.client, one.store) for one in found.refused}
    if refused != case.refused:
        wrong.append(f"refused is {sorted(refused)}")
    for client, uses in case.led.items():
        for asked, answered in uses.items():
            name, _, port = asked.partition(":")
            way = _way(model, found, client, name, int(port))
            if way != ["proxy", answered]:
                wrong.append(f"{client} -> {asked} goes {way}")
    for client, names in case.direct.items():
        for name in names:
            if any(one.startswith(OURS) for one in _means(model, client, name)):
                wrong.append(f"{client} -> {name} is led through Toxiproxy")
    stores = {to.partition(":")[0] for uses in case.led.values() for to in uses.values()}
    if {one.service.name for one in found.front.fronted} != stores:
        wrong.append(f"in front of {[one.service.name for one in found.front.fronted]}")
    clients = {user for one in found.front.fronted for user in one.users}
    if clients != set(case.led):
        wrong.append(f"for {sorted(clients)}")
    return wrong


def _wrong_files(case: Case, found: ComposeProposal) -> list[str]:
    target = found.choice.service.name if found.choice.service is not None else None
    wrong = [f"the target is {target}"] if target != case.target else []
    if target is not None:
        try:
            config = parse(found.toml.encode(), Path("harness.toml"), tables())
        except UsageError as error:
            return [*wrong, f"harness.toml: {error}"]
        names = {row["name"] for row in json.loads(found.proxies or "[]")} | {*found.front.own_proxies.values()}
        wrong += [f"no proxy {d.proxy}" for d in config.dependencies.values() if d.proxy not in {None, *names}]
    elif tomllib.loads(found.toml)["target"] != {"url": ""}:
        wrong.append("the target is not left open")
    if case.project is not None and found.front.project.name != case.project:
        wrong.append(f"project {found.front.project.name}")
    for word in ("s3cret", "root:x", ":x@"):
        wrong += [f"{name} has a secret" for name, text in found.files.items() if word in text]
    return wrong


def _way(model: dict[str, Any], found: ComposeProposal, client: str, name: str, port: int) -> list[str]:
    """Where a connection goes: through a proxy of the harness's Toxiproxy or not, and to which server at last."""
    way: list[str] = []
    here = client
    for _ in range(4):
        meant = _means(model, here, name)
        if len(meant) != 1:
            return [*way, f"{name} means {sorted(meant)}"]
        (to,) = meant
        if not to.startswith(OURS):
            return [*way, f"{to}:{port}"]
        rows = json.loads(found.proxies or "[]") if to == OURS else json.loads(model["configs"][to]["content"])
        upstream = [row["upstream"] for row in rows if row["listen"] == f"0.0.0.0:{port}"]
        if not upstream:
            return [*way, f"{to}:{port}, where nobody listens"]
        way += ["proxy"] if to == OURS else []
        here, (name, _, text) = to, upstream[0].rpartition(":")
        port = int(text)
    return [*way, "in a circle"]


def _means(model: dict[str, Any], client: str, name: str) -> set[str]:
    services = model["services"]
    table = services[client]
    while (table.get("network_mode") or "").startswith("service:"):
        table = services[table["network_mode"].removeprefix("service:")]
    for line in table.get("extra_hosts") or ():
        host, _, address = line.partition("=")
        if host == name:
            return {address}
    links = {alias or to: to for to, _, alias in (link.partition(":") for link in table.get("links") or ())}
    if [link.rpartition(":")[2] for link in table.get("links") or ()].count(name) > 1:
        return {"two links", "of one name"}
    if name in links:
        return {links[name]}
    found = set()
    for other, its in services.items():
        for network, end in (its.get("networks") or {}).items():
            if network in (table.get("networks") or {}):
                names = {other, its.get("container_name") or f"{model['name']}-{other}-1", its.get("hostname")}
                if name in names | set((end or {}).get("aliases") or ()):
                    found.add(other)
    return found
