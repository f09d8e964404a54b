"""The Compose projects that a keeper owns: journaled before anything of them is made, removed whoever dies.

A project is known by its engine and its label. One that has anything on the engine before it is owned is somebody
else's and refused; of what carries its label later, only what the harness's own compose.yaml has marked is removed.
The engine is one of this machine: any other is refused here, whatever a run may reach, since what such a project
publishes is on loopback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from harness.model.errors import HarnessError, Refused, SetupError
from harness.safety.journal.entries import Entry, Project, ProjectGone

Write = Callable[[Entry], None]
Say = Callable[[str], None]


class Projects:
    """Thread-safe. write: appends to keeper.jsonl, raises OSError. say: the keeper's log."""

    def __init__(self, write: Write, say: Say) -> None:
        self._write = write
        self._say = say
        self._mutex = threading.Lock()
        self._owned: list[Project] = []

    def __bool__(self) -> bool:
        return bool(self._owned)

    def own(self, engine: str, project: str) -> None:
        """On the disk when it returns. Raises Refused for a project that exists, SetupError, AdapterError."""
        from harness.adapters.docker.engine import connect
        from harness.adapters.docker.project import belongings

        with connect(engine) as opened:
            found = belongings(opened, project)
        if found:
            raise Refused(
                f"the Docker engine has a Compose project called {project} already ({found})",
                hint=f"see: docker ps -a --filter label=com.docker.compose.project={project}",
            )
        entry = Project(engine=engine, project=project)
        try:
            self._write(entry)
        except OSError as error:
            raise SetupError(f"the Compose project cannot be journaled: {error.strerror or error}") from error
        with self._mutex:
            self._owned.append(entry)

    def drop(self, engine: str, project: str) -> None:
        """Remove it now. One that is not owned is none of ours and left alone. Raises AdapterError."""
        with self._mutex:
            owned = [one for one in self._owned if (one.engine, one.project) == (engine, project)]
        for entry in owned:
            _remove(entry, self._write, self._say)
            with self._mutex:
                self._owned.remove(entry)

    def end(self) -> tuple[list[str], list[str]]:
        """Remove all. Returns what was removed, and sentences for what is left. Never raises."""
        with self._mutex:
            owned, self._owned = self._owned, []
        return remove_projects(owned, self._write, self._say)


def remove_projects(projects: Sequence[Project], write: Write, say: Say) -> tuple[list[str], list[str]]:
    """What was removed, and sentences for what is left. Never raises."""
    done: list[str] = []
    left: list[str] = []
    for entry in reversed(projects):
        try:
            _remove(entry, write, say)
            done.append(f"Compose project {entry.project}")
        except Exception as error:  # the next one must go all the same
            why = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
            left.append(
                f"the Compose project {entry.project} on {entry.engine} may still be there: {why};"
                " run `harness heal --all` when the engine answers"
            )
    return done, left


def _remove(entry: Project, write: Write, say: Say) -> None:
    from harness.adapters.docker.engine import connect
    from harness.adapters.docker.project import remove_project

    with connect(entry.engine) as engine:
        found = remove_project(engine, entry.project)
    say(f"removed the Compose project {entry.project}: {found}")
    try:
        write(ProjectGone(engine=entry.engine, project=entry.project))
    except OSError as error:
        say(f"cannot write to the journal: {error}")
