"""Fixtures, the marker and options that pytest sees. Nothing of the harness is imported before a test wants it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.api import Injection, LoadResult, Result, SteadyLoad

MARK = "resilience"
_RESULT = pytest.StashKey["Result"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("resilience", "resilience harness")
    group.addoption(
        "--resilience-config", metavar="FILE", help="harness.toml of the system under test (default: ./harness.toml)"
    )
    group.addoption(
        "--resilience-out", metavar="DIR", help="where run directories and reports stay (default: pytest's tmp)"
    )
    group.addoption(
        "--resilience-wait",
        metavar="SECONDS",
        type=float,
        default=900.0,
        help="how long to wait for other tests and runs that are at the same system (default: 900)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARK}(fault, scenario, inconclusive='fail', **options): run a whole experiment before the test, and fail "
        "with the first sentence of its report unless it passes; options are the fields of harness.api.Experiment",
    )


class System:
    """The declared system. config: its harness.toml. out: where records go. wait_s: for others that are at it."""

    def __init__(self, config: Path, out: Path, wait_s: float) -> None:
        self.config = config
        self.out = out
        self.wait_s = wait_s


@pytest.fixture(scope="session")
def harness_dependencies() -> Mapping[str, Any] | None:
    """Override it to declare the system in code: the tables of a harness.toml, as a mapping. None: the file is read."""
    return None


@pytest.fixture(scope="session")
def harness_stack(
    request: pytest.FixtureRequest,
    harness_dependencies: Mapping[str, Any] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> System:
    """The system under test, which was looked at: every part answers, and is as it is declared."""
    from harness import api

    options = request.config.option
    out = Path(options.resilience_out).absolute() if options.resilience_out else tmp_path_factory.mktemp("resilience")
    with _told():
        if harness_dependencies is not None:
            config = api.declare(harness_dependencies, tmp_path_factory.mktemp("declared") / "harness.toml")
        else:
            config = Path(options.resilience_config or request.config.rootpath / "harness.toml").absolute()
        # It is looked at again before each fault, in turn: others may be at it right now, and part of it broken.
        if not os.environ.get("PYTEST_XDIST_WORKER"):
            with suppress(api.Refused):
                api.check(config)
    return System(config, out, options.resilience_wait)


@pytest.fixture
def fault(harness_stack: System) -> Callable[..., AbstractContextManager[Injection]]:
    """`with fault("redis-down"):` the fault is on, proven; after it, undone and verified."""

    def begin(*faults: str, longest_s: float = 60.0, prove_path: bool = True) -> AbstractContextManager[Injection]:
        return _injected(harness_stack, faults, longest_s, prove_path)

    return begin


@contextmanager
def _injected(system: System, faults: tuple[str, ...], longest_s: float, prove_path: bool) -> Iterator[Injection]:
    from harness import api

    __tracebackhide__ = True
    with (
        _told(),
        api.inject(
            *faults,
            config=system.config,
            out=system.out / "faults",
            longest_s=longest_s,
            wait_s=system.wait_s,
            prove_path=prove_path,
        ) as found,
    ):
        yield found


@pytest.fixture
def steady_load(harness_stack: System) -> Iterator[Callable[..., SteadyLoad]]:
    """`with steady_load("/orders", rate=20) as load:` requests meanwhile; `load.stop()` returns what they saw."""
    from harness import api

    begun: list[SteadyLoad] = []

    def begin(what: str | Callable[[], object] | None = None, *, rate: float = 10.0, **options: Any) -> SteadyLoad:
        with _told():
            begun.append(api.steady_load(what, rate=rate, config=harness_stack.config, **options))
        return begun[-1]

    yield begin
    with _told():
        for load in begun:
            load.stop()


@pytest.fixture
def assert_resilient() -> Callable[..., None]:
    return _assert_resilient


def _assert_resilient(result: Result | LoadResult, *targets: str) -> None:
    """Of a steady load: its targets held. Of a run: it passed. Fails with a sentence, without a traceback."""
    from harness import api

    __tracebackhide__ = True
    if isinstance(result, api.LoadResult):
        with _told():
            said = result.broken(targets or ("error_rate < 1%",))
        if said:
            pytest.fail("; ".join(said), pytrace=False)
    elif targets:
        pytest.fail("targets of a run are given to the experiment, as targets=(...)", pytrace=False)
    elif result.verdict != "pass":
        pytest.fail("; ".join((result.verdict.upper(), *result.reasons[:3])), pytrace=False)


@pytest.fixture
def resilience_result(request: pytest.FixtureRequest) -> Callable[[], Result]:
    """The result of the experiment of the test's marker, which ran before its body: `resilience_result()`."""

    def found() -> Result:
        result: Result | None = request.node.stash.get(_RESULT, None)
        if result is None:
            pytest.fail(f"this test has no marker {MARK}, so no experiment was run before it", pytrace=False)
        return result

    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A marked test has the stack, whether or not it asks for it."""
    for item in items:
        names = getattr(item, "fixturenames", None)
        if names is not None and item.get_closest_marker(MARK) is not None and "harness_stack" not in names:
            names.append("harness_stack")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    marker = item.get_closest_marker(MARK)
    if marker is not None:
        _run(item, marker)
    return (yield)


def _run(item: pytest.Item, marker: pytest.Mark) -> None:
    """The experiment of a marker. Fails the test, with a sentence and without a traceback, unless it passes."""
    from harness import api

    __tracebackhide__ = True
    system: System = item.funcargs["harness_stack"]  # type: ignore[attr-defined]
    options = dict(marker.kwargs)
    inconclusive = options.pop("inconclusive", "fail")
    if inconclusive not in ("fail", "skip"):
        pytest.fail(f"inconclusive={inconclusive!r} of the marker {MARK}: one of 'fail' and 'skip'", pytrace=False)
    faults = options.pop("fault", marker.args or ())
    if "locustfile" in options:
        options["locustfile"] = str(item.config.rootpath / options["locustfile"])
    known = api.Experiment.__struct_fields__
    if strange := sorted(options.keys() - set(known)):
        pytest.fail(f"marker {MARK}: no option {strange[0]!r}; there are {', '.join(known)}", pytrace=False)
    experiment = api.Experiment(faults=(faults,) if isinstance(faults, str) else tuple(faults), **options)
    with _told():
        result = api.run(experiment, config=system.config, out=system.out, wait_s=system.wait_s)
        folder = system.out / result.experiment
        item.stash[_RESULT] = result
        said = f"{api.first_sentence(folder)}\nreport: {folder / 'report.html'}"
    if result.exit_code == api.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if result.verdict == "inconclusive" and result.exit_code == api.ExitCode.INCONCLUSIVE and inconclusive == "skip":
        pytest.skip(said)
    if result.exit_code != api.ExitCode.PASS:
        pytest.fail(said, pytrace=False)
    item.add_report_section("call", "resilience", said)


@contextmanager
def _told() -> Iterator[None]:
    """An error of the harness is one line for people, with what would be right below it."""
    __tracebackhide__ = True
    from harness.api import HarnessError

    try:
        yield
        return
    except HarnessError as error:
        said = f"{error}\n{error.hint}" if error.hint else str(error)
    raise pytest.fail.Exception(said, pytrace=False) from None
