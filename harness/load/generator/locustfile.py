"""The user's Locust file: import it, describe it, make Locust's environment from it."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from harness.load.generator.locust_import import import_locust
from harness.load.ipc.locustfiles import digest, files_of, joined
from harness.load.ipc.pipe import MessagePipe
from harness.load.ipc.protocol import Described, Wanted
from harness.model.jsonl import encode_line
from harness.model.records.load import LoadPlan, Locustfile, TaskInfo, UserClass

_CONFIG_FILES = ("~/.locust.conf", "locust.conf")
"""Where Locust looks for options that nobody typed."""


class BadLocustfile(Exception):
    """One line for a person."""


def print_description(argument: str) -> int:
    """`python -m harness.load describe WANTED`: one `Described` on stdout; exit code 0, or 2 with an error in it."""
    messages = MessagePipe()
    try:
        described = Described(locustfile=describe(msgspec.json.decode(argument, type=Wanted)))
    except BadLocustfile as error:
        described = Described(error=str(error), exited=isinstance(error.__cause__, SystemExit))
    messages.write(encode_line(described))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Greenlets or threads that the file started must not keep this process alive.
    os._exit(0 if described.error is None else 2)


def describe(wanted: Wanted) -> Locustfile:
    files = tuple(map(Path, wanted.files))
    classes, shapes = _load(files)
    options = parse_options(files, wanted)
    described = tuple(_describe_class(cls, options) for cls in classes)
    if not any(one.tasks for one in described):
        raise BadLocustfile(f"{joined(files)}: user class {described[0].name} has no tasks")
    return Locustfile(
        path=joined(files),
        sha256=digest(files),
        classes=described,
        shapes=tuple(type(shape).__name__ for shape in shapes),
        notes=_surroundings(options, wanted),
    )


def load_classes(files: tuple[Path, ...]) -> list[Any]:
    """The concrete user classes of the files, in their order; Locust leaves out those of weight 0, so do we."""
    return _load(files)[0]


def _load(files: tuple[Path, ...]) -> tuple[list[Any], list[Any]]:
    """Their classes, and their load shapes."""
    import_locust()
    from locust.util.load_locustfile import load_locustfile

    classes: dict[str, Any] = {}
    shapes: list[Any] = []
    for path in files:
        try:
            found, more = load_locustfile(str(path))
        except (Exception, SystemExit) as error:
            raise BadLocustfile(f"{_where(path, error)}: {_what(error)}") from error
        for cls in dict.fromkeys(found.values()):
            known = classes.setdefault(cls.__name__, cls)
            # A file that imports a class of another one has it too; Locust takes that for one class, so do we.
            if known is not cls and not (len(files) > 1 and inspect.getfile(known) == inspect.getfile(cls)):
                raise BadLocustfile(f"{path}: two user classes are named {cls.__name__}")
        shapes += more
    taking_part = [cls for cls in classes.values() if cls.weight > 0 or cls.fixed_count > 0]
    if not taking_part:
        raise BadLocustfile(_no_users(files))
    return taking_part, shapes


def _no_users(files: tuple[Path, ...]) -> str:
    """Where Locust would make users of pytest functions, that is the reason."""
    text = f"{joined(files)}: no user class in it (a concrete subclass of locust.User with a weight above 0)"
    for file in files:
        module = sys.modules.get(file.stem)
        tests = [name for name, value in vars(module).items() if name.startswith("test_") and callable(value)]
        if tests and inspect.isfunction(getattr(module, tests[0])):
            return (
                f"{text}; users made of pytest functions ({tests[0]}) are not supported: they have no tasks that an "
                "arrival could start"
            )
    return text


def parse_options(files: tuple[Path, ...], wanted: Wanted | LoadPlan) -> Any:
    """Locust's options with their defaults, the files' own arguments (init_command_line_parser) included."""
    from locust.argument_parser import get_empty_argument_parser, get_parser, setup_parser_arguments

    text = joined(files)
    parser = get_parser(default_config_files=[])
    parser.allow_abbrev = False
    of_locust = get_empty_argument_parser(default_config_files=[])
    setup_parser_arguments(of_locust)
    for given in wanted.locust_args:
        name = given.partition("=")[0]
        if given.startswith("-") and name in of_locust._option_string_actions:
            raise BadLocustfile(
                f"{text}: {name} is an option of Locust's own, and --locust-arg is for those of the file: scenario and "
                "options decide the load"
            )
        if getattr(parser._option_string_actions.get(name), "is_secret", False):
            raise BadLocustfile(f"{text}: {name} is secret, and what is given here is written down: set its variable")

    def refuse(message: str) -> NoReturn:
        first = " ".join(message.split("\n")[0].split())
        how = ": give it with --locust-arg=--NAME=VALUE, a default, or an environment variable (env_var=)"
        raise BadLocustfile(f"{text}: {first}{how if 'required' in first else ''}")

    parser.error = refuse
    try:
        options = parser.parse_args(["-f", text, *wanted.locust_args])
    except SystemExit as error:
        raise BadLocustfile(f"{text}: its own command line arguments ended it (exit code {error.code})") from error
    options.tags = list(wanted.tags) or options.tags
    options.exclude_tags = list(wanted.exclude_tags) or options.exclude_tags
    return options


def make_environment(plan: LoadPlan) -> Any:
    """Locust's environment for the plan: our host, the plan's classes with the plan's weights.

    Raises BadLocustfile, also when a class of the plan is not in the file.
    """
    import locust
    from locust.env import Environment

    files = files_of(plan.locustfile)
    by_name = {cls.__name__: cls for cls in load_classes(files)}
    options = parse_options(files, plan)
    options.host, options.headless = plan.host, True
    options.num_users, options.spawn_rate = plan.users, plan.spawn_rate
    classes = []
    for wanted in plan.classes:
        if wanted.name not in by_name:
            raise BadLocustfile(f"{plan.locustfile}: no user class named {wanted.name}")
        cls = by_name[wanted.name]
        cls.weight, cls.fixed_count, cls.host = wanted.weight, wanted.fixed_count, plan.host
        classes.append(cls)
    environment = Environment(
        user_classes=classes,
        events=locust.events,
        host=plan.host,
        parsed_options=options,
        locustfile=",".join(file.name for file in files),
        parsed_locustfiles=list(map(str, files)),
        available_user_classes={cls.__name__: cls for cls in classes},
        available_user_tasks={cls.__name__: cls.tasks for cls in classes},
        stop_timeout=plan.request_timeout_s,
        tags=options.tags,
        exclude_tags=options.exclude_tags,
    )
    _tell_users(plan, environment, environment.events.test_start)
    return environment


def stopped_by(locustfile: str) -> str:
    """Who is stopping the test just now, for people: the line of the locustfile, where it can be told. The files may be
    gone by now, so nothing is looked up."""
    frame, files = inspect.currentframe(), locustfile.split(",")
    while frame is not None and frame.f_code.co_filename not in files:
        frame = frame.f_back
    where = f" in line {frame.f_lineno} of {Path(frame.f_code.co_filename).name}" if frame is not None else ""
    return f"it stops the test (runner.stop() or runner.quit()){where}"


def _tell_users(plan: LoadPlan, environment: Any, hook: Any) -> None:
    """test_start listeners find the users of the run in `runner.target_user_count`, as under Locust. The test itself
    is started without any: they come with the schedule."""
    from locust.runners import MasterRunner

    original = hook.fire

    def fire(**arguments: Any) -> None:
        runner = environment.runner
        before, runner.target_user_count = runner.target_user_count, plan.users
        try:
            original(**arguments)
        finally:
            # A master waits for as many users as it says.
            if isinstance(runner, MasterRunner):
                runner.target_user_count = before

    hook.fire = fire


def _surroundings(options: Any, wanted: Wanted) -> tuple[str, ...]:
    """What Locust itself would have read beside the file: said by name, so that nobody takes it to be in force."""
    found = [
        f"{name} is not read: scenario and options decide"
        for name in _CONFIG_FILES
        if Path(name).expanduser().is_file()
    ]
    if options.tags:
        found.append(f"only tasks tagged {', '.join(options.tags)}" + ("" if wanted.tags else " (LOCUST_TAGS)"))
    if options.exclude_tags:
        found.append(
            f"no tasks tagged {', '.join(options.exclude_tags)}"
            + ("" if wanted.exclude_tags else " (LOCUST_EXCLUDE_TAGS)")
        )
    return tuple(found)


def _describe_class(cls: Any, options: Any) -> UserClass:
    from locust.user.task import filter_tasks_by_tags

    if options.tags or options.exclude_tags:
        filter_tasks_by_tags(cls, set(options.tags or ()) or None, set(options.exclude_tags or ()) or None)
    shares: dict[str, float] = {}
    _add_leaves(cls.tasks, 1.0, "", shares, 0)
    return UserClass(
        name=cls.__name__,
        weight=float(cls.weight),
        fixed_count=int(cls.fixed_count),
        tasks=tuple(TaskInfo(name=name, share=round(share, 9)) for name, share in shares.items()),
        wait_s=_wait_range(cls),
        host=str(cls.host) if cls.host else None,
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
    if isinstance(error, SystemExit):
        # A text is the reason, as Python itself prints it; a number is none, and what was printed before is added.
        return " ".join(str(error).split()) if isinstance(error.code, str) else f"it calls sys.exit({error.code})"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())
