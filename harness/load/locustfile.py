"""The user's Locust file: import it, describe it, make Locust's environment from it."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from harness.load.pipe import MessagePipe
from harness.load.protocol import Described
from harness.model.jsonl import encode_line
from harness.model.load import LoadPlan, Locustfile, TaskInfo, UserClass


class BadLocustfile(Exception):
    """One line for a person."""


def print_description(path: str) -> int:
    """`python -m harness.load describe FILE`: one `Described` on stdout; exit code 0, or 2 with an error in it."""
    messages = MessagePipe()
    try:
        described = Described(locustfile=describe(Path(path)))
    except BadLocustfile as error:
        described = Described(error=str(error))
    messages.write(encode_line(described))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Greenlets or threads that the file started must not keep this process alive.
    os._exit(0 if described.error is None else 2)


def describe(path: Path) -> Locustfile:
    classes = load_classes(path)
    options = parse_options(path)
    return Locustfile(
        path=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        classes=tuple(_describe_class(path, cls, options) for cls in classes),
    )


def load_classes(path: Path) -> list[Any]:
    """The concrete user classes of the file, in its order; Locust leaves out those of weight 0, so do we."""
    from locust.util.load_locustfile import load_locustfile

    try:
        found, _shapes = load_locustfile(str(path))
    except (Exception, SystemExit) as error:
        raise BadLocustfile(f"{_where(path, error)}: {_what(error)}") from error
    classes = list(dict.fromkeys(found.values()))
    names = [cls.__name__ for cls in classes]
    for name in names:
        if names.count(name) > 1:
            raise BadLocustfile(f"{path}: two user classes are named {name}")
    classes = [cls for cls in classes if cls.weight > 0 or cls.fixed_count > 0]
    if not classes:
        raise BadLocustfile(f"{path}: no user class in it (a concrete subclass of locust.User with a weight above 0)")
    return classes


def parse_options(path: Path) -> Any:
    """Locust's options with their defaults, the file's own arguments (init_command_line_parser) included."""
    from locust.argument_parser import get_parser

    try:
        return get_parser(default_config_files=[]).parse_args(["-f", str(path)])
    except SystemExit as error:
        raise BadLocustfile(f"{path}: its own command line arguments need values (exit code {error.code})") from error


def make_environment(plan: LoadPlan) -> Any:
    """Locust's environment for the plan: our host, the plan's classes with the plan's weights.

    Raises BadLocustfile, also when a class of the plan is not in the file.
    """
    import locust
    from locust.env import Environment

    path = Path(plan.locustfile)
    by_name = {cls.__name__: cls for cls in load_classes(path)}
    options = parse_options(path)
    options.host, options.headless = plan.host, True
    options.num_users, options.spawn_rate = plan.users, plan.spawn_rate
    classes = []
    for wanted in plan.classes:
        if wanted.name not in by_name:
            raise BadLocustfile(f"{path}: no user class named {wanted.name}")
        cls = by_name[wanted.name]
        cls.weight, cls.fixed_count, cls.host = wanted.weight, wanted.fixed_count, plan.host
        classes.append(cls)
    return Environment(
        user_classes=classes,
        events=locust.events,
        host=plan.host,
        parsed_options=options,
        locustfile=path.name,
        parsed_locustfiles=[str(path)],
        available_user_classes={cls.__name__: cls for cls in classes},
        available_user_tasks={cls.__name__: cls.tasks for cls in classes},
        stop_timeout=plan.request_timeout_s,
    )


def _describe_class(path: Path, cls: Any, options: Any) -> UserClass:
    from locust.user.task import filter_tasks_by_tags

    if options.tags or options.exclude_tags:
        filter_tasks_by_tags(cls, set(options.tags or ()) or None, set(options.exclude_tags or ()) or None)
    shares: dict[str, float] = {}
    _add_leaves(cls.tasks, 1.0, "", shares, 0)
    if not shares:
        raise BadLocustfile(f"{path}: user class {cls.__name__} has no tasks")
    return UserClass(
        name=cls.__name__,
        weight=float(cls.weight),
        fixed_count=int(cls.fixed_count),
        tasks=tuple(TaskInfo(name=name, share=round(share, 9)) for name, share in shares.items()),
        wait_s=_wait_range(cls),
    )


def _add_leaves(tasks: list[Any], share: float, prefix: str, into: dict[str, float], depth: int) -> None:
    for item in tasks:
        part = share / len(tasks)
        nested = getattr(item, "tasks", None)
        name = prefix + getattr(item, "__name__", repr(item))
        if nested and depth < 20:
            _add_leaves(nested, part, f"{name}.", into, depth + 1)
        else:
            into[name] = into.get(name, 0.0) + part


def _wait_range(cls: Any) -> tuple[float, float] | None:
    """(min, max) of Locust's own `between` and `constant`, read from their closures; None for anything else."""
    function = inspect.getattr_static(cls, "wait_time", None)
    if not inspect.isfunction(function) or function.__module__ != "locust.user.wait_time":
        return None
    bound = inspect.getclosurevars(function).nonlocals
    try:
        if function.__qualname__.startswith("between."):
            return float(bound["min_wait"]), float(bound["max_wait"])
        if function.__qualname__.startswith("constant."):
            return float(bound["wait_time"]), float(bound["wait_time"])
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _where(path: Path, error: BaseException) -> str:
    """FILE:LINE of the last frame in the user's file, else of a syntax error, else FILE."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _what(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())
