"""What scripts and plug-ins import: what is here changes only with a line in the changelog.

Scripts, authors of faults and the command line come in. Imports nothing of the harness before it is asked for (PEP 562)
and never the command line. `from harness.api import Fault, Change` loads the records and the protocol, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from harness.adapters.wire.exchange import ErrorKind as ErrorKind
    from harness.adapters.wire.exchange import Exchange as Exchange
    from harness.adapters.wire.exchange import ProbeError as ProbeError
    from harness.conductor.scripts.injection import Injection as Injection
    from harness.conductor.scripts.load_result import LoadResult as LoadResult
    from harness.config.file import DependencyTable as DependencyTable
    from harness.dependencies.kind import Attempt as Attempt
    from harness.dependencies.kind import CounterReader as CounterReader
    from harness.dependencies.kind import DependencyKind as DependencyKind
    from harness.dependencies.kind import PathClient as PathClient
    from harness.dependencies.kind import Received as Received
    from harness.dependencies.result import secret as secret
    from harness.doctor.diagnosis import Diagnosis as Diagnosis
    from harness.doctor.diagnosis import DiagnosisLine as DiagnosisLine
    from harness.fault import Fault as Fault
    from harness.fault import Stage as Stage
    from harness.model.clock import monotonic as monotonic
    from harness.model.errors import AdapterError as AdapterError
    from harness.model.errors import Forbidden as Forbidden
    from harness.model.errors import Gone as Gone
    from harness.model.errors import HarnessError as HarnessError
    from harness.model.errors import LoadError as LoadError
    from harness.model.errors import NotProven as NotProven
    from harness.model.errors import OutcomeUnknown as OutcomeUnknown
    from harness.model.errors import Refused as Refused
    from harness.model.errors import Rejected as Rejected
    from harness.model.errors import SetupError as SetupError
    from harness.model.errors import Silent as Silent
    from harness.model.errors import UndoUnverified as UndoUnverified
    from harness.model.errors import Unreachable as Unreachable
    from harness.model.errors import UsageError as UsageError
    from harness.model.exit_codes import ExitCode as ExitCode
    from harness.model.records.faults import Address as Address
    from harness.model.records.faults import Applied as Applied
    from harness.model.records.faults import Change as Change
    from harness.model.records.faults import Dependency as Dependency
    from harness.model.records.faults import Evidence as Evidence
    from harness.model.records.faults import ParamInfo as ParamInfo
    from harness.model.records.faults import UndoRecord as UndoRecord
    from harness.model.records.many_runs.group import Comparison as Comparison
    from harness.model.records.plan import Plan as Plan
    from harness.model.records.result import Result as Result
    from harness.plan.experiment import Experiment as Experiment
    from harness.plan.files.entries import FaultEntry as FaultEntry
    from harness.plan.files.entries import RandomFaults as RandomFaults
    from harness.plan.files.entries import Repeat as Repeat

_HOMES = {
    "harness.adapters.wire.exchange": ("ErrorKind", "Exchange", "ProbeError"),
    "harness.conductor.scripts.injection": ("Injection",),
    "harness.conductor.scripts.load_result": ("LoadResult",),
    "harness.config.file": ("DependencyTable",),
    "harness.dependencies.kind": ("Attempt", "CounterReader", "DependencyKind", "PathClient", "Received"),
    "harness.dependencies.result": ("secret",),
    "harness.doctor.diagnosis": ("Diagnosis", "DiagnosisLine"),
    "harness.fault": ("Fault", "Stage"),
    "harness.model.clock": ("monotonic",),
    "harness.model.errors": (
        "AdapterError",
        "Forbidden",
        "Gone",
        "HarnessError",
        "LoadError",
        "NotProven",
        "OutcomeUnknown",
        "Refused",
        "Rejected",
        "SetupError",
        "Silent",
        "UndoUnverified",
        "Unreachable",
        "UsageError",
    ),
    "harness.model.exit_codes": ("ExitCode",),
    "harness.model.records.faults": (
        "Address",
        "Applied",
        "Change",
        "Dependency",
        "Evidence",
        "ParamInfo",
        "UndoRecord",
    ),
    "harness.model.records.many_runs.group": ("Comparison",),
    "harness.model.records.plan": ("Plan",),
    "harness.model.records.result": ("Result",),
    "harness.plan.experiment": ("Experiment",),
    "harness.plan.files.entries": ("FaultEntry", "RandomFaults", "Repeat"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

_FUNCTIONS = (
    "analyze",
    "check",
    "compare",
    "declare",
    "doctor",
    "first_sentence",
    "inject",
    "load_result",
    "plan",
    "run",
)

__all__ = sorted((*_HOME, *_FUNCTIONS, "SteadyLoad", "steady_load"))

View = Literal["live", "lines", "none"]


class SteadyLoad(Protocol):
    """What `steady_load` returns."""

    def stop(self) -> LoadResult:
        """Nothing more is due; returns when what is open was answered. May be called again."""
        ...

    def __enter__(self) -> SteadyLoad: ...

    def __exit__(self, *_: object) -> None: ...


if not TYPE_CHECKING:  # for a type checker every name would be there, misspelt ones too

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOME[name]), name)
        return found


def __dir__() -> list[str]:
    return list(__all__)


def plan(experiment: Experiment, *, config: str | Path | None = None) -> Plan:
    """What `run` would do, and what it would refuse as warnings. Executes the locustfile in a child process, and
    touches nothing else. config: see `run`. Raises UsageError for what makes no plan."""
    from harness.conductor.prepare import planned_for

    return planned_for(experiment, _path(config)).told


def run(
    experiment: Experiment,
    *,
    config: str | Path | None = None,
    out: str | Path = "runs",
    view: View = "none",
    wait_s: float | None = None,
) -> Result:
    """Carry an experiment out, and leave its report in a new folder below `out`, named by `result.experiment`.

    FAIL and INCONCLUSIVE are results, and so is a run that could not be set up or was interrupted: `exit_code` says
    which, as the command's. Raises HarnessError for what was refused before anything was touched. In the main thread
    only, because a signal has to end it in order.

    config: a harness.toml, of which all but [run] counts. view: progress on stderr, as the command shows it.
    wait_s: for others that are at the same system, tests among them; None refuses at once.
    """
    import shlex
    import sys
    from contextlib import ExitStack

    from harness.conductor.prepare import planned_for
    from harness.conductor.run import run_planned
    from harness.conductor.signals import Signals

    planned = planned_for(experiment, _path(config))
    with ExitStack() as held:
        if wait_s is not None and planned.plan.load.host:
            from harness.conductor.scripts.turn import turn

            held.enter_context(turn(planned.plan, wait_s=wait_s, say=_say))
        planned.check()
        signals = held.enter_context(Signals())
        return run_planned(planned, out=Path(out), view=view, command=shlex.join(sys.argv), signals=signals).result


def doctor(experiment: Experiment, *, config: str | Path | None = None, all_requests: bool = False) -> Diagnosis:
    """Would a run on the user's own system mean something? Executes the locustfile in child processes and sends each of
    its requests once or a few times, those that may change something only with all_requests or where it has no others;
    changes nothing else. config: see `run`. Raises UsageError where no system of the user's own is meant."""
    from harness.conductor.prepare import asked_for
    from harness.doctor.examine import examine

    return examine(*asked_for(experiment, _path(config)), every=all_requests)


def inject(
    *faults: str,
    config: str | Path,
    out: str | Path = "runs",
    longest_s: float = 60.0,
    wait_s: float = 0.0,
    prove_path: bool = True,
) -> AbstractContextManager[Injection]:
    """Faults that are on while the code in the `with` runs: proven before it begins, looked at again when it ends, then
    undone and verified, also where it raises. Where this process is killed its keeper undoes them.

    config: the harness.toml of the system. longest_s: for how long at most; half a minute later the keeper undoes them
    on its own. wait_s: for others that are at the same system. prove_path: that the application uses what they change,
    for which it has to be in use just before.

    Raises NotProven, UndoUnverified, SetupError, and UsageError and Refused before anything is touched.
    """
    from harness.conductor.scripts.injection import injected
    from harness.dependencies.configuration import load

    return injected(
        faults,
        load(Path(config)),
        out=Path(out),
        longest_s=longest_s,
        wait_s=wait_s,
        prove_path=prove_path,
        say=_say,
    )


def steady_load(
    what: str | Callable[[], object] | None = None,
    *,
    rate: float,
    config: str | Path | None = None,
    locustfile: str | Path | None = None,
    timeout_s: float = 10.0,
) -> SteadyLoad:
    """Requests at a constant rate in the background from now until `stop()`, which returns a LoadResult; a context
    manager as well.

    what: a function, or a URL to GET, also a path below the target of `config`. locustfile: the requests of a Locust
    file instead, sent to that target. Raises UsageError, Refused, LoadError.
    """
    from harness.conductor.scripts.begin import begin

    return begin(what, rate=rate, config=_path(config), locustfile=_path(locustfile), timeout_s=timeout_s)


def declare(tables: Mapping[str, Any], path: str | Path) -> Path:
    """Write a harness.toml of tables that code knows, such as addresses of containers that it has started, and check
    it. Raises UsageError."""
    from harness.conductor.scripts.declare import declared

    return declared(tables, Path(path))


def check(config: str | Path) -> tuple[str, ...]:
    """Look at the system of a harness.toml, as before a run: the names of its dependencies. Raises UsageError for what
    is not well, Refused for what must not be tested; nothing is touched."""
    from harness.conductor.scripts.declare import looked_at

    return looked_at(Path(config))


def first_sentence(directory: str | Path) -> str:
    """Of a run's report: its verdict in words. Raises UsageError where the run directory is damaged."""
    from harness.analysis.run_directory import read_plan, read_result
    from harness.report.sentences.story import headline

    return headline(read_plan(Path(directory)), read_result(Path(directory)))


def analyze(directory: str | Path, *, targets: Sequence[str] = ()) -> Result:
    """Judge a run again from its records, by further targets too. Writes nothing. Raises UsageError."""
    from harness.analysis import run_directory
    from harness.model.target_grammar import parse_targets

    extra = tuple(target for text in targets for target in parse_targets(text))
    return run_directory.analyze(Path(directory), extra)


def load_result(directory: str | Path) -> Result:
    """result.json as the run wrote it. Raises UsageError where it is missing or damaged."""
    from harness.analysis.run_directory import read_result

    return read_result(Path(directory))


def compare(base: str | Path, new: str | Path | None = None, *, margin: float = 0.5) -> Comparison:
    """Two run directories, or two groups of them; one group of pairs of two versions by itself. Worse, not worse than
    the margin and cannot tell are answers. Writes nothing. Raises UsageError for what cannot be compared."""
    from harness.compare.compare import compare as compared

    return compared(Path(base), _path(new), margin=margin)


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr)


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name)
