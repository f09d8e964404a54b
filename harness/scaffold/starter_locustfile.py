"""A Locust file to begin with, and taking requests out of it again.

Whatever it says of a document is a Python literal (`repr`) or stands in a comment that it cannot leave.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.model.errors import UsageError
from harness.scaffold.one_line import joined
from harness.scaffold.openapi.operations import MAX_OPERATIONS, Operation
from harness.scaffold.written_files import rewrite

MAX_BODY = 4_000
"""Characters of a body that is shown."""


def starter(found: Sequence[Operation], source: str | None) -> str:
    """source: the document that the operations are from; None: there is none."""
    lines = [
        "# Requests to begin with: put those of your users in their place.",
        "#",
        # Not in the first two lines, where Python takes some comments for the file's encoding.
        *([] if source is None else _of_document(source)),
        "# @task(4) is four times as frequent as @task(1), and name= groups requests in every table.",
        "# It is an ordinary Locust file: https://docs.locust.io",
        "",
        "from locust import HttpUser, between, task",
        "",
        "",
        "class Visitor(HttpUser):",
        "    wait_time = between(1, 2)  # between tasks, where the load is given in users and not in requests/s",
    ]
    taken: set[str] = set()
    if not any(one.inactive is None for one in found):
        lines += ["", *(["    # Nothing else can be sent as it is: choose what your users ask for."] if found else [])]
        lines += _task(Operation(method="get", template="/", path="/"), taken)
    for one in found:
        lines += ["", *_task(one, taken)]
    if len(found) >= MAX_OPERATIONS:
        lines += ["", f"    # The first {MAX_OPERATIONS:,} operations; what follows in the document was left out."]
    return joined(lines) + "\n"


def _of_document(source: str) -> list[str]:
    return [
        f"# There is one for each operation of {source}. What is switched on needs no parameter; the rest are",
        "# comments: give them values that your service knows, and take the # away. `harness doctor --fix` does the",
        "# reverse for those that it refuses.",
    ]


def _task(one: Operation, taken: set[str]) -> list[str]:
    said = [f"    # {one.summary}"] if one.summary else []
    if one.inactive is not None:
        said.append(f"    # Not switched on: {one.inactive}.")
    call = [repr(one.path), f"name={f'{one.method.upper()} {one.template}'!r}"]
    if one.body is not None:
        body = repr(one.body)
        if len(body) <= MAX_BODY:
            call.append(f"json={body}")
        else:
            said.append("    # Its body is too long to be shown.")
    code = [
        "@task(1)",
        f"def {_name(one, taken)}(self):",
        f"    self.client.{one.method}({', '.join(call)})",
    ]
    return said + [f"    {'' if one.inactive is None else '# '}{line}" for line in code]


def _name(one: Operation, taken: set[str]) -> str:
    """A name for a method that no other has; with its verb in front none of Locust's own either."""
    words = re.sub(r"[^a-z0-9]+", "_", one.template.lower()).strip("_")[:60]
    name = first = f"{one.method}_{words or 'root'}"
    number = 2
    while name in taken:
        name, number = f"{first}_{number}", number + 1
    taken.add(name)
    return name


def comment_out(path: Path, refused: Mapping[str, str]) -> tuple[str, ...]:
    """Make comments of the tasks whose request has one of these names, in a Locust file that init wrote and nobody has
    changed since. refused: name -> why, for the comment: `answered 404`. Returns the names that were switched on.

    Raises UsageError, and changes nothing, for any other file and where no task would be left.
    """
    done: list[str] = []

    def change(source: str) -> str:
        lines = source.splitlines()
        tasks = list(_tasks(source))
        wanted = [(first, last, name) for first, last, name in tasks if name in refused]
        if wanted and len(wanted) == len(tasks):
            raise UsageError(
                f"{path}: none of its requests is answered, so none would be left",
                hint="a login, or a path that all of them lack? Write the requests of your users",
            )
        for first, last, name in reversed(wanted):
            lines[first - 1 : last] = [
                joined([f"    # Not switched on: {refused[name]}."]),
                *(f"    # {line.removeprefix('    ')}" for line in lines[first - 1 : last]),
            ]
            done.insert(0, name)
        return "\n".join(lines) + "\n"

    rewrite(path, change)
    return tuple(done)


def _tasks(source: str) -> Iterator[tuple[int, int, str]]:
    """First and last line of each task, and its request's name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            for call in ast.walk(node):
                if isinstance(call, ast.Call):
                    for given in call.keywords:
                        if given.arg == "name" and isinstance(given.value, ast.Constant):
                            yield node.decorator_list[0].lineno, node.end_lineno or node.lineno, str(given.value.value)
