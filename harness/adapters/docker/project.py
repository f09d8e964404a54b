"""A Docker Compose project on an engine, known by its label alone: what belongs to it, and its removal.

Compose marks every container, network and volume that it makes with the label `com.docker.compose.project`. Names are
never asked for: they differ between versions of Compose, and the engine would also match the beginning of an ID.

The harness's own compose.yaml marks what it makes once more: somebody's own project may get the same name later, and
nothing of it may be removed.
"""

from __future__ import annotations

import re
import time
from urllib.parse import quote

import msgspec

from harness.adapters.docker.engine import Engine
from harness.adapters.docker.errors import Conflict
from harness.adapters.docker.records import PROJECT_LABEL, Container, Network
from harness.model.errors import AdapterError, Gone, OutcomeUnknown, Rejected, Unreachable, UsageError

REMOVE_LIMIT_S = 60.0
QUIET_S = 3.0
"""For so long nothing may have been found: the engine goes on with what a killed Compose had asked for, and lists a
container only when it is made. On a busy disk four of them came after a look that found nothing."""
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OURS = ("resilience-harness", "stack")
"""The label, and its value, of everything in compose/compose.yaml."""


class Volume(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str
    labels: dict[str, str] | None = None


class _Volumes(msgspec.Struct, frozen=True, rename="pascal"):
    volumes: tuple[Volume, ...] | None = None


class Image(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """id: its full ID."""

    id: str


class Belongings(msgspec.Struct, frozen=True, kw_only=True):
    """All that carries a project's label."""

    containers: tuple[Container, ...] = ()
    networks: tuple[Network, ...] = ()
    volumes: tuple[Volume, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.containers or self.networks or self.volumes)

    @property
    def ours(self) -> Belongings:
        """What the harness's own compose.yaml has made of it."""
        name, value = OURS
        return Belongings(
            containers=tuple(one for one in self.containers if one.labels.get(name) == value),
            networks=tuple(one for one in self.networks if (one.labels or {}).get(name) == value),
            volumes=tuple(one for one in self.volumes if (one.labels or {}).get(name) == value),
        )

    def __str__(self) -> str:
        counts = (
            (len(self.containers), "container"),
            (len(self.networks), "network"),
            (len(self.volumes), "volume"),
        )
        return ", ".join(f"{count} {what}{'s' if count != 1 else ''}" for count, what in counts if count) or "nothing"


def project_name(text: str) -> str:
    """The text, when Compose takes it for a project's name. Raises UsageError."""
    if not _PROJECT.fullmatch(text):
        raise UsageError(
            f"{text!r} is no name for a Compose project",
            hint="lower-case letters, digits, - and _, beginning with a letter or digit",
        )
    return text


def belongings(engine: Engine, project: str) -> Belongings:
    """What carries exactly this project's label, running or not. Raises AdapterError, UsageError."""
    labels = {PROJECT_LABEL: project_name(project)}
    chosen = msgspec.json.encode({"label": [f"{PROJECT_LABEL}={project}"]}).decode()
    listed = engine.get("/volumes", _Volumes, params={"filters": chosen})
    found = Belongings(
        containers=engine.find(labels), networks=engine.networks(labels), volumes=tuple(listed.volumes or ())
    )
    # The engine filters by the exact label; what is removed afterwards is looked at here once more.
    return Belongings(
        containers=tuple(one for one in found.containers if one.project == project),
        networks=tuple(one for one in found.networks if (one.labels or {}).get(PROJECT_LABEL) == project),
        volumes=tuple(one for one in found.volumes if (one.labels or {}).get(PROJECT_LABEL) == project),
    )


def remove_project(engine: Engine, project: str) -> Belongings:
    """Remove every container, network and volume of the project that is the harness's own; what there was.

    Containers are killed, not stopped: nothing in them is worth keeping. Repeated until QUIET_S passed without a find.
    Safe to repeat. Raises AdapterError when something is left after REMOVE_LIMIT_S.
    """
    end = time.monotonic() + REMOVE_LIMIT_S
    first: Belongings | None = None
    quiet = time.monotonic()
    while True:
        found = belongings(engine, project).ours
        if first is None:
            first = found
        if found:
            trouble = _remove(engine, found)
            if time.monotonic() > end:
                raise trouble or Rejected(f"the Compose project {project} still has {found} after {REMOVE_LIMIT_S:g} s")
            quiet = time.monotonic()
        elif time.monotonic() - quiet >= QUIET_S:
            return first
        time.sleep(0.2)


def _remove(engine: Engine, found: Belongings) -> AdapterError | None:
    """Containers before their networks and volumes. The last thing that could not be removed, None for nothing."""
    trouble: AdapterError | None = None
    paths = [(f"/containers/{one.id}", {"force": "true", "v": "true"}) for one in found.containers]
    paths += [(f"/networks/{one.id}", {}) for one in found.networks]
    paths += [(f"/volumes/{quote(one.name, safe='')}", {}) for one in found.volumes]
    for path, params in paths:
        try:
            engine.delete(path, params=params)
        except (Gone, Conflict) as error:
            # Gone: by somebody else meanwhile. Conflict: its removal is under way, or a container still holds it.
            trouble = trouble if isinstance(error, Gone) else error
        except (OutcomeUnknown, Unreachable, Rejected) as error:
            trouble = error
    return trouble


def image(engine: Engine, reference: str) -> Image | None:
    """The image with this name, tag or ID; None when the engine has none."""
    try:
        return engine.get(f"/images/{quote(reference, safe='/:@')}/json", Image)
    except Gone:
        return None
