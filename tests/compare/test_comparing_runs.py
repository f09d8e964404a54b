"""Run directories and groups of them are compared, or refused in a line, by `harness compare` and harness.api."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from harness import api
from harness.analysis import run_directory
from harness.analysis.comparison.power import what_pairs_show
from harness.analysis.record.windows import WindowStore
from harness.analysis.verdict.judge import judge as the_judge
from harness.cli import cli
from harness.model.errors import UsageError
from harness.model.records import events as ev
from harness.model.records.many_runs.group import Comparison, Group, GroupRun, Middle
from harness.model.records.plan import Plan
from harness.model.records.result import Result as JudgedResult
from harness.model.records.stack import StackName
from harness.model.records.windows import DeltaRow, RequestCounts
from harness.report.sentences.comparison import first_sentence, what_shows
from harness.report.terminal.comparison import lines
from tests.analysis.histories import INJECTED, ZERO, Run, Scene, failing

PAIRS = 7


def made(number: int, share: float = 0.2, **more: object) -> Run:
    """A run of its own, that began at its own moment."""
    service = failing(INJECTED, ZERO, share)
    scene = Scene(service=service, rate=50.0, workers=1, samples=False, seed=number, **more)  # type: ignore[arg-type]
    run = scene.build()
    events = [replace(one, monotonic=1e4 + number) if isinstance(one, ev.Started) else one for one in run.events]
    return Run(run.plan, events, run.rows)


@pytest.fixture(autouse=True, scope="module")
def _each_run_judged_once() -> Iterator[None]:
    """The same files always give the same result (tests/analysis), and most tests compare the same runs."""
    loaded: dict[tuple[bytes, ...], run_directory.Run] = {}
    judged: dict[int, JudgedResult] = {}

    def load_run(directory: Path) -> run_directory.Run:
        content = tuple(path.name.encode() + path.read_bytes() for path in sorted(directory.iterdir()))
        if content not in loaded:
            loaded[content] = run_directory.load_run(directory)
        return loaded[content]

    def judge(plan: Plan, history: object, store: WindowStore, *more: object) -> JudgedResult:
        # `loaded` keeps the store, and nobody gives one another plan.
        if id(store) not in judged:
            judged[id(store)] = the_judge(plan, history, store, *more)  # type: ignore[arg-type]
        return judged[id(store)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.compare.compare.load_run", load_run)
        patch.setattr("harness.compare.compare.judge", judge)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups `base`, `same` and `worse`, seven runs each."""
    top = tmp_path_factory.mktemp("runs")
    for place, (name, share) in enumerate((("base", 0.2), ("same", 0.2), ("worse", 0.6))):
        for number in range(PAIRS):
            made(100 * place + number, share).write(top / name / f"{number:02}")
    return top


def pairs(folder: Path, to: Path, new: str) -> Path:
    """A group of pairs of two versions."""
    runs = []
    for number in range(PAIRS):
        for label, name in (("A", "base"), ("B", new)):
            shutil.copytree(folder / name / f"{number:02}", to / f"{label}{number}")
            runs.append(GroupRun(directory=f"{label}{number}", label=label, pair=number + 1))  # type: ignore[arg-type]
    return grouped(to, Group(kind="versus", runs=tuple(runs)))


def grouped(to: Path, group: Group) -> Path:
    (to / "group.json").write_bytes(msgspec.json.encode(group))
    return to


def changed(directory: Path, change: Callable[[Plan], Plan]) -> Path:
    plan = msgspec.json.decode((directory / "plan.json").read_bytes(), type=Plan)
    (directory / "plan.json").write_bytes(msgspec.json.encode(change(plan)))
    return directory


def command(*words: object) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, words)], standalone_mode=False)


def test_pairs_that_did_more_harm_are_worse(folder: Path, tmp_path: Path) -> None:
    group = pairs(folder, tmp_path / "versus", "worse")
    done = command(group)
    assert done.return_value == 1
    assert done.stdout.startswith("WORSE: harm has changed by +1") and "7 pairs, p = 0.0078" in done.stdout
    found = api.compare(group)
    assert (found.answer, found.method, found.pairs, found.p) == ("worse", "pairs", 7, 1 / 128)
    assert found.change == pytest.approx(1.9, abs=0.3)  # three times as many, and 10 more on both sides
    assert [one.pair for one in found.new] == list(range(1, 8))
    assert json.loads(command(group, "--json").stdout) == json.loads(msgspec.json.encode(found))


def test_equal_pairs_are_not_worse_than_the_margin(folder: Path, tmp_path: Path) -> None:
    group = pairs(folder, tmp_path / "versus", "same")
    done = command(group)
    assert done.return_value == 0 and done.stdout.startswith("NOT WORSE: ")
    done = command(group, "--margin", "0%")
    assert done.return_value == 3 and done.stdout.startswith("CANNOT TELL: ")


def test_groups_are_told_to_be_weaker(folder: Path) -> None:
    done = command(folder / "base", folder / "worse")
    assert done.return_value == 1 and "7 and 7 runs" in done.stdout and "weaker than pairs" in done.stdout
    found = api.compare(folder / "base", folder / "same")
    assert (found.answer, found.method) == ("not_worse", "groups")
    rows = {row.metric: row for row in found.rows}
    harms = [run.harm for run in found.base if run.harm is not None]
    assert len(harms) == 7
    assert rows["harm"].base == Middle(median=sorted(harms)[3], low=min(harms), high=max(harms), known=7, of=7)


def test_one_beside_one_is_never_told(folder: Path) -> None:
    done = command(folder / "base" / "00", folder / "worse" / "00")
    assert done.return_value == 3
    assert "one run beside one run does not show what is chance; it takes 7 pairs at least" in done.stdout
    assert "weaker" not in done.stdout and "p = " not in done.stdout


def test_a_repeat_is_one_side(folder: Path, tmp_path: Path) -> None:
    group = tmp_path / "repeat"
    shutil.copytree(folder / "base", group)
    runs = tuple(GroupRun(directory=f"{number:02}", label="A", pair=number + 1) for number in range(5))
    grouped(group, Group(kind="repeat", runs=runs))
    assert len(api.compare(group, folder / "worse").base) == 5
    with pytest.raises(UsageError, match="holds no pairs of two versions"):
        api.compare(group)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("scenario", lambda plan: replace(plan, scenario=replace(plan.scenario, name="spike"))),
        ("load model", lambda plan: replace(plan, load=replace(plan.load, model="closed"))),
        ("rate", lambda plan: replace(plan, load=replace(plan.load, rate=60.0))),
        ("faults", lambda plan: replace(plan, faults=(replace(plan.faults[0], for_s=19.0),))),
        ("phases", lambda plan: replace(plan, phases=replace(plan.phases, hold_s=14.0))),
        ("load file", lambda plan: replace(plan, load=replace(plan.load, locustfile_sha256="ab" * 32))),
        ("request mix", lambda plan: replace(plan, load=replace(plan.load, classes=plan.load.classes[:1]))),
    ],
)
def test_another_experiment_is_refused(folder: Path, tmp_path: Path, what: str, change: Callable[[Plan], Plan]) -> None:
    other = changed(Path(shutil.copytree(folder / "worse" / "00", tmp_path / "other")), change)
    with pytest.raises(UsageError, match=f"other cannot be compared with .*00: {what} ") as told:
        api.compare(folder / "base" / "00", other)
    assert told.value.exit_code == 2 and "\n" not in str(told.value)


def test_what_else_differs_is_listed(folder: Path, tmp_path: Path) -> None:
    def elsewhere(plan: Plan) -> Plan:
        assert plan.provenance is not None
        return replace(plan, provenance=replace(plan.provenance, machine="\x1b[31mother", versions={"redis": "8"}))

    other = changed(Path(shutil.copytree(folder / "worse" / "00", tmp_path / "other")), elsewhere)
    found = api.compare(folder / "base" / "00", other)
    assert [one.what for one in found.differs] == ["machine", "version of redis"]
    said = command(folder / "base" / "00", other).stdout
    assert "machine: BASE test; NEW \\x1b[31mother" in said and "\x1b" not in said
    assert "version of redis: BASE not on record; NEW 8" in said
    assert "different" not in command(folder / "base" / "00", folder / "worse" / "00").stdout


@pytest.mark.parametrize(("stack", "differs"), [("embedded", []), ("external", ["target"])])
def test_the_address_of_a_stack_of_ours_is_no_difference(
    folder: Path, tmp_path: Path, stack: StackName, differs: list[str]
) -> None:
    def at(port: int) -> Callable[[Plan], Plan]:
        return lambda plan: replace(plan, stack=stack, load=replace(plan.load, host=f"http://127.0.0.1:{port}"))

    base = changed(Path(shutil.copytree(folder / "base" / "00", tmp_path / "base")), at(1001))
    new = changed(Path(shutil.copytree(folder / "worse" / "00", tmp_path / "new")), at(1002))
    assert [one.what for one in api.compare(base, new).differs] == differs


def test_a_run_that_is_left_out_holds_an_answer_back(folder: Path, tmp_path: Path) -> None:
    sides = {name: Path(shutil.copytree(folder / name, tmp_path / name)) for name in ("base", "same", "worse")}
    made(900).cut(ZERO).write(sides["same"] / "00")
    made(901).without(ev.FaultProven, ev.FaultEvidence).write(sides["base"] / "00")
    found = api.compare(folder / "base", sides["same"])
    assert (found.answer, found.needed) == ("cannot_tell", None) and found.new[0].left_out
    said = list(lines(found))
    assert said[0].startswith("CANNOT TELL: 1 run is left out of NEW")
    assert f"Left out of NEW: {sides['same'] / '00'}: its load ended before the span did." in said
    # What is missing of the other side only makes this answer safer.
    assert api.compare(sides["base"], folder / "same").answer == "not_worse"
    assert api.compare(sides["base"], folder / "worse").why.startswith("1 run is left out of BASE")
    with pytest.raises(UsageError, match=r"none of these runs can be compared: .*00: its fault is not proven"):
        api.compare(sides["base"] / "00", folder / "worse")


def test_of_a_pair_both_are_left_out(folder: Path, tmp_path: Path) -> None:
    group = pairs(folder, tmp_path / "versus", "worse")
    made(900).cut(ZERO).write(group / "B3")
    found = api.compare(group)
    assert (found.pairs, found.answer) == (6, "cannot_tell")
    assert found.base[3].left_out == "the other of its pair is left out"
    assert found.rows[0].base.of == 6


def test_pairs_with_other_arrivals_are_listed(folder: Path, tmp_path: Path) -> None:
    group = pairs(folder, tmp_path / "versus", "same")
    assert api.compare(group).differs[0].what == "seed of the arrivals, within pairs"
    for number in range(PAIRS):
        changed(group / f"B{number}", lambda plan: replace(plan, load=replace(plan.load, seed=plan.seed - 100)))
    # Its windows have the arrivals of another seed: those are gaps.
    with pytest.raises(UsageError, match="of the span are not whole on record"):
        api.compare(group)


def test_a_busy_generator_is_left_out(tmp_path: Path) -> None:
    run = made(1)
    busy = [replace(row, saturated=True) if 24 < getattr(row, "at", 0.0) < 33 else row for row in run.rows]
    Run(run.plan, run.events, busy).write(tmp_path / "a")
    made(2).write(tmp_path / "b")
    with pytest.raises(UsageError, match="its load generator could not keep up"):
        api.compare(tmp_path / "a", tmp_path / "b")


def test_a_limit_relative_to_baseline_is_that_of_base(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        made(number, targets=("p95 < 2x baseline",)).write(tmp_path / name)
    found = api.compare(tmp_path / "a", tmp_path / "b")
    assert found.limit_ms is not None and 100 < found.limit_ms < 130
    assert found.limit_ms in [one.limit for one in api.analyze(tmp_path / "a").targets if one.phase == "fault"]


def broken_group(folder: Path, text: str) -> Path:
    (folder / "group.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "group.json is damaged"),
        ("[" * 100_000, "group.json is damaged"),
        (
            '{"schema": 2, "kind": "repeat", "runs": []}',
            "is of schema 2, and this version of the harness reads schema 1",
        ),
        ('{"kind": "repeat", "runs": []}', "holds no run directory"),
        ('{"kind": "versus", "runs": [{"directory": "00", "label": "A", "pair": 1}]}', "holds no run directory"),
        (
            '{"kind": "repeat", "runs": [{"directory": "../base/00", "label": "A", "pair": 1}]}',
            "is not the name of a run",
        ),
        ('{"kind": "repeat", "runs": [{"directory": "..", "label": "A", "pair": 1}]}', "is not the name of a run"),
        ('{"kind": "repeat", "runs": [{"directory": "00", "label": "B", "pair": 1}]}', "a repeat has no B"),
        ('{"kind": "repeat", "runs": [{"directory": "00", "label": "C", "pair": 1}]}', "group.json is damaged"),
        (
            '{"kind": "repeat", "runs": [{"directory": "00", "label": "A", "pair": 1},'
            '{"directory": "00", "label": "A", "pair": 2}]}',
            "is there twice",
        ),
        ('{"kind": "repeat", "runs": [{"directory": "gone", "label": "A", "pair": 1}]}', "gone"),
    ],
)
def test_a_damaged_group_is_told_in_a_line(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    shutil.copytree(folder / "base" / "00", tmp_path / "00")
    with pytest.raises(UsageError) as told:
        api.compare(broken_group(tmp_path, text), folder / "worse" if "versus" not in text else None)
    assert said in str(told.value) and "\n" not in str(told.value)


def test_what_is_no_two_sides(folder: Path, tmp_path: Path) -> None:
    base, worse = folder / "base", folder / "worse"
    group = pairs(folder, tmp_path / "versus", "same")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "latest").symlink_to(base / "00")
    copied = Path(shutil.copytree(base / "00", tmp_path / "copied"))
    (tmp_path / "file").touch()
    many = tmp_path / "many"
    for number in range(31):
        (many / f"{number}").mkdir(parents=True)
        shutil.copy(base / "00" / "plan.json", many / f"{number}")
    for first, second, said in (
        (base, base, "is on both sides"),
        (base, base / "03", "is on both sides"),
        (base, copied, "are the same run"),
        (group, worse, "holds pairs of two versions"),
        (worse, group, "holds pairs of two versions"),
        (base, None, "holds no pairs of two versions"),
        (base, tmp_path / "linked", "holds no run directory"),
        (base, many, "holds 31 runs of one side, and 30 are compared at most"),
        (base, tmp_path / "gone", "no such file or run directory"),
        (tmp_path / "file", base, "is a file, not a run directory"),
    ):
        with pytest.raises(UsageError, match=said):
            api.compare(first, second)
    for margin in (-0.1, 11.0, float("nan")):
        with pytest.raises(UsageError, match="a margin of"):
            api.compare(base, worse, margin=margin)


@pytest.mark.parametrize("name", ["plan.json", "history.jsonl", "windows.jsonl"])
def test_a_damaged_run_names_its_file(folder: Path, tmp_path: Path, name: str) -> None:
    other = Path(shutil.copytree(folder / "worse" / "00", tmp_path / "other"))
    content = (other / name).read_bytes()
    (other / name).write_bytes(content[:50] + b"\x00garbage\n" + content[50:])
    with pytest.raises(UsageError, match=name):
        api.compare(folder / "base" / "00", other)


def test_absurd_numbers_are_told_in_a_line_or_counted(folder: Path, tmp_path: Path) -> None:
    longest = replace(made(5).plan.phases, hold_s=30 * 86400.0)
    for number, name in enumerate("ab"):
        run = made(number)
        Run(replace(run.plan, phases=longest), run.events, run.rows).write(tmp_path / name)
    with pytest.raises(UsageError, match="its load ended before the span did"):
        api.compare(tmp_path / "a", tmp_path / "b")
    run = made(6)
    rows = [
        replace(row, requests={"x": RequestCounts(fail={"status": 10**9})})
        if isinstance(row, DeltaRow) and row.step > 231
        else row
        for row in run.rows
    ]
    Run(run.plan, run.events, rows).write(tmp_path / "huge")
    found = api.compare(folder / "base" / "00", tmp_path / "huge")
    assert found.answer == "cannot_tell" and found.change is not None and found.change > 1e7


def test_runs_of_schema_1_are_read(tmp_path: Path) -> None:
    former = Path(__file__).parent.parent / "analysis" / "former" / "schema-1"
    other = Path(shutil.copytree(former, tmp_path / "other"))
    with pytest.raises(UsageError, match="are the same run"):
        api.compare(former, other)
    history = (other / "history.jsonl").read_text()
    (other / "history.jsonl").write_text(re.sub(r'"monotonic":[0-9.]+', '"monotonic":1.0', history))
    found = api.compare(former, other)
    assert (found.answer, found.change, found.differs) == ("cannot_tell", 0.0, ())


def test_a_sentence_has_its_condition() -> None:
    one = Comparison(answer="cannot_tell", exit_code=3, method="pairs", margin=0.5, pairs=8, p=0.3, change=0.1,
                     upper=0.9, spread=0.4, needed=14, span_s=35.0, scenario="target", base=(), new=())  # fmt: skip
    said = first_sentence(one)
    assert said == (
        "CANNOT TELL: harm has changed by +10% from BASE to NEW; with 95% confidence by less than +90%; the margin of "
        "50% (8 pairs, p = 0.3); about 14 pairs would tell, were the change the one seen"
    )
    assert "30 pairs would not tell either" in first_sentence(replace(one, needed=None))
    assert "confidence" not in first_sentence(replace(one, upper=None))
    assert first_sentence(replace(one, pairs=2, needed=7)).endswith("it takes 7 pairs at least")
    assert "7 times" in first_sentence(replace(one, change=6.0))
    assert "-20%" in first_sentence(replace(one, change=-0.2))


def test_what_pairs_show_is_said_with_its_range() -> None:
    well, few, hardly = (what_pairs_show(10, 0.45, known, 0.5) for known in (30, 8, 2))
    assert well is not None and few is not None and hardly is not None
    said = what_shows(well, 30, "runs", paired=True)
    assert said == (
        "10 pairs find, in nine cases of ten, that harm has changed by +92.2% (margin 50%; from the spread of 30 pairs "
        "in runs)"
    )
    assert ", or +71.5% to +219.4%: few pairs have shown their spread (margin" in what_shows(
        few, 8, "runs", paired=True
    )
    said = what_shows(hardly, 2, "runs", paired=False)
    assert "too few runs" in said and " to +" not in said and "pairs" not in said
    assert said.startswith("10 runs against 10 find, in about nine") and said.endswith("were the two sessions alike)")
