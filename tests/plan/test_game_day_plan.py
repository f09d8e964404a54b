"""Plans of game days: what a person may write, the one line that tells what is wrong and where, and the plan that
`harness gameday init` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.dependencies.configuration import load
from harness.fault import registered
from harness.gameday.prepare import PlannedGameDay, plan_game_day
from harness.model.errors import UsageError
from harness.model.records.faults import Dependency, DependencyProxy
from harness.plan.experiment import Experiment
from harness.plan.gameday.plan_file import MOST_DRILLS, GameDayFile, decode, is_game_day
from harness.plan.gameday.template import template
from harness.plan.suite.suite_file import SHARED
from harness.report.terminal.gameday_plan import gameday_plan_text
from harness.stack.embedded import EmbeddedStack
from tests.support.command import command

ONE = "title: t\ndrills: [redis-down]\n"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "gameday.yaml"
EXTERNAL = """
[target]
url = "http://127.0.0.1:9"
[toxiproxy]
url = "http://127.0.0.1:8474"
"""
REDIS = '[dependencies.redis]\nkind = "redis"\nproxy = "redis"\ndirect = "127.0.0.1:6379"\n'
DB = '[dependencies.db]\nkind = "postgres"\nproxy = "db"\ndirect = "127.0.0.1:5432"\nlogin = "user=app dbname=app"\n'


def read(text: str) -> GameDayFile:
    return decode(text.encode(), "g.yaml")


def planned(text: str) -> PlannedGameDay:
    file = read(text)
    settings = {SHARED[key].field: value for key, value in file.suite.settings.items()}
    return plan_game_day(file, Experiment(**{"stack": "embedded", **settings}), None)


def test_all_that_may_be_said_of_a_game_day() -> None:
    file = read(
        "title: checkout\nscenario: target\nroles: {operator: [Ada], responder: [Bo, Cy]}\nprerequisites: ['a: b']\n"
        "pause: 2m\nallow: [redis-flush]\ndrills:\n  - redis-down\n  - name: slow\n    faults: [db-latency:latency=1s]"
        "\n    hypothesis: it holds\n    expect: '#1 is red'\n    blind: true\n    pause: 5m\n    fault-for: 30s\n"
        "    abort_if: [error_rate > 50% for 10s]\n"
    )
    assert (file.title, file.suite.title, file.suite.allow) == ("checkout", "checkout", ("redis-flush",))
    assert file.roles == {"operator": ("Ada",), "responder": ("Bo", "Cy")} and file.prerequisites == ("a: b",)
    assert file.suite.settings == {"scenario": "target"} and file.suite.where("scenario") == "g.yaml:2: scenario"
    down, slow = file.drills
    assert (down.name, down.pause_s, down.blind, down.hypothesis) == ("redis-down", 120.0, False, "")
    assert (slow.pause_s, slow.blind, slow.hypothesis, slow.expect) == (300.0, True, "it holds", "#1 is red")
    assert file.suite.items[1].settings == {"fault_s": 30.0, "abort_if": ("error_rate > 50% for 10s",)}
    assert read(ONE).drills[0].pause_s == 60.0


BAD = [
    ("", "g.yaml"),
    ("[]", "g.yaml:1: not a game day"),
    ("title: t\n", "g.yaml:1: `drills` is missing"),
    ("drills: [redis-down]\n", "g.yaml:1: `title` is missing"),
    ("title:\ndrills: [redis-down]\n", "g.yaml:1: title: has no value"),
    ("title: [t]\ndrills: [redis-down]\n", "g.yaml:1: title: a list"),
    ("title: t\ndrills:\n", "g.yaml:2: drills: has no value"),
    ("title: t\ndrills: []\n", f"g.yaml:2: drills: 0 drills: from 1 to {MOST_DRILLS}"),
    ("title: t\ndrills: 3\n", "g.yaml:2: drills: not a list"),
    ("title: t\ndrills: {redis-down: 1}\n", "g.yaml:2: drills"),
    ("title: t\ndrills:\n  - [redis-down]\n", "g.yaml:3: drills[0]"),
    (
        "title: t\ndrills:\n  - redis-down\n  - redis-down\n",
        "g.yaml:4: drills[1]: the name 'redis-down' is",
    ),
    ("title: t\ndrills:\n  - name: x\n", "g.yaml:3: drills[0]: `faults` is missing"),
    ("title: t\ndrills:\n  - {faults: [redis-down], hypotesis: x}\n", "g.yaml:3: drills[0].hypotesis: unknown key"),
    ("title: t\ndrills:\n  - {faults: [redis-down], hypothesis: }\n", "drills[0].hypothesis: has no value"),
    ("title: t\ndrills:\n  - {faults: [redis-down], expect: [a]}\n", "drills[0].expect: a list"),
    ("title: t\ndrills:\n  - {faults: [redis-down], blind: yes}\n", "g.yaml:3: drills[0].blind: 'yes' is not true or"),
    ("title: t\ndrills:\n  - {faults: [redis-down], blind: 'true'}\n", "drills[0].blind: 'true' is not true or false"),
    ("title: t\ndrills:\n  - {faults: [redis-down], pause: 5}\n", "g.yaml:3: drills[0].pause"),
    ("title: t\ndrills:\n  - {faults: [redis-down], pause: 10:30}\n", "'10:30' is the number 630 to YAML 1.1"),
    ("title: t\ndrills:\n  - {faults: [redis-down], pause: 25h}\n", "25h is over 24 hours"),
    ("title: t\ndrills:\n  - {faults: [redis-down], pause: -5s}\n", "drills[0].pause"),
    ("title: t\ndrills:\n  - {faults: [redis-down], rate: 5}\n", "it has the load of its game day"),
    ("title: t\ndrills:\n  - {faults: [redis-down], request_timeout: 5s}\n", "drills[0].request_timeout: not a key"),
    (ONE + "pause: off\n", "g.yaml:3: pause: 'off' is false to YAML"),
    (ONE + "experiments: [redis-down]\n", "g.yaml:3: experiments: not a key of this file"),
    (ONE + "faults: [redis-down]\n", "g.yaml:3: faults: not a key of this file"),
    (ONE + "profile: quick\n", "g.yaml:3: profile: unknown key"),
    (ONE + "titel: x\n", "g.yaml:3: titel: unknown key"),
    (ONE + "rate: fast\n", "g.yaml:3: rate"),
    (ONE + "prerequisites: on-call\n", "g.yaml:3: prerequisites: not a list"),
    (ONE + "prerequisites: ['']\n", "g.yaml:3: prerequisites[0]: has no value"),
    (ONE + "roles: [Ada]\n", "g.yaml:3: roles: not a mapping"),
    (ONE + "roles: {boss: [Ada]}\n", "g.yaml:3: roles.boss: unknown key"),
    (ONE + "roles: {operator: Ada}\n", "g.yaml:3: roles.operator: not a list"),
    (ONE + "roles: {operator: [Ada], observer: [Ada]}\n", "g.yaml:3: roles: 'Ada' is there twice"),
    (ONE + "roles: {operator: [Ada, Ada]}\n", "g.yaml:3: roles: 'Ada' is there twice"),
    (ONE + "roles: {operator: [Ada], responder: [ada]}\n", "g.yaml:3: roles: 'ada' is there twice"),
    (ONE + "roles: {operator: ['']}\n", "g.yaml:3: roles.operator[0]: has no value"),
    (ONE + "title: u\n", "g.yaml:3"),
    (ONE + "allow: &a [*a]\n", "g.yaml:3"),
    (ONE + "allow: !!python/object/apply:os.system [true]\n", "g.yaml:3"),
    (ONE + "---\n" + ONE, "g.yaml"),
    ("\ttitle: t\n", "g.yaml:1"),
    ("title: t\ndrills: [" + ", ".join(f"e{i}" for i in range(MOST_DRILLS + 1)) + "]\n", "51 drills"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_one_line_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_game_day_is_known_by_its_drills() -> None:
    assert is_game_day(ONE.encode(), "g") and not is_game_day(b"experiments: [redis-down]\n", "g")
    assert not is_game_day(b"faults: [redis-down]\n", "g") and not is_game_day(b"[drills]\n", "g")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: t\ndrills: [redis-dwn]\n", "redis-dwn"),
        ("title: t\nscenario: spike\ndrills: [redis-down]\n", "drill redis-down: its load jumps"),
        ("title: t\nallow: [redis-flush]\ndrills: [redis-down]\n", "g.yaml:2: allow: the suite has no experiment"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_anything_is_touched(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(text)


def test_the_printed_plan_is_valid_as_it_stands_for_the_embedded_stack() -> None:
    text = template(EmbeddedStack().describe(), registered(), ours=True)
    day = planned(text)
    assert [drill.name for drill in day.drills] == ["redis-down", "kafka-down", "db-down", "redis-latency"]
    assert [drill.blind for drill in day.drills] == [False, False, False, True]
    assert all(drill.hypothesis and drill.expect and drill.abort_if and drill.command for drill in day.drills)
    assert day.seconds == pytest.approx(day.suite.seconds + 4 * 120)


@pytest.mark.parametrize(
    ("declared", "names"),
    [
        (REDIS + DB, ["redis-down", "db-down", "redis-latency", "db-latency"]),
        (REDIS, ["redis-down", "redis-latency", "redis-hang"]),
        ("", ["control"]),
    ],
)
def test_the_printed_plan_is_valid_as_it_stands_for_a_system_that_is_declared(
    tmp_path: Path, declared: str, names: list[str]
) -> None:
    (tmp_path / "harness.toml").write_text(EXTERNAL + declared)
    init = command("gameday", "init", cwd=tmp_path)
    assert init.returncode == 0, init.stderr
    file = read(init.stdout)
    assert [drill.name for drill in file.drills] == names
    assert ("Nothing is declared" in init.stdout) is (not declared)
    assert "\nscenario:" not in init.stdout and "\nrate:" not in init.stdout, "[run] of harness.toml says it"
    configuration = load(tmp_path / "harness.toml")
    day = plan_game_day(file, Experiment(host="http://127.0.0.1:9", stack="external", rate=50.0), configuration)
    assert [drill.dependencies for drill in day.drills] == [
        () if name == "control" else (name.partition("-")[0],) for name in names
    ]


@pytest.mark.parametrize("name", ["on", "null", "1e3", "0x1", "no-1", "a_b", "true", "12-30"])
def test_a_dependency_whose_name_is_something_else_to_yaml(name: str) -> None:
    one = Dependency(name=name, kind="redis", proxy=DependencyProxy(name=name), proxied=True)
    file = read(template([one], registered(), ours=False))
    assert [drill.name for drill in file.drills] == [f"{name}-down", f"{name}-latency", f"{name}-hang"]
    assert file.drills[0].hypothesis.startswith(f"without {name} the service")


def test_plan_tells_what_would_happen() -> None:
    day = planned(
        "title: \"a\\e[31m\"\nroles: {operator: [Ada]}\nprerequisites: ['say \\stop']\npause: 2m\ndrills:\n"
        "  - {name: slow, faults: ['redis-latency:latency=1s@2s+5s', kafka-down], hypothesis: it holds, blind: true,"
        " expect: red, fault_for: 10s, baseline: 20s, hold: 15s, abort_if: [p95 > 9s for 5s],"
        " may_fail: [/predict], must_hold: [/health]}\n  - none\n"
    )
    text = gameday_plan_text(day.told)
    assert "\x1b" not in text and "a\\x1b[31m: 2 drills, about" in text
    for said in (
        "operator   Ada",
        "1 slow (blind: the responders are not told what is broken)",
        "redis-latency:latency=1s@2s+5s, kafka-down",
        "of          redis, kafka",
        "pause 2m, baseline 20s, fault 10s, hold 15s",
        "believed    it holds",
        "to be seen  red",
        "stops when  p95 > 9s for 5s",
        "may fail    /predict",
        "must hold   /health",
        "nothing: a control drill",
        "it is started again, and the rest goes on",
    ):
        assert said in text, text
    shorter = planned("title: t\npause: 0s\ndrills: [none]\n").told
    assert shorter.seconds == shorter.suite.seconds and "blind" not in gameday_plan_text(shorter)


def test_plan_of_a_wrong_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("title: t\ndrills: [redis-down]\nboss: me\n")
    said = command("plan", "g.yaml", cwd=tmp_path)
    assert said.returncode == 2 and "g.yaml:3: boss: unknown key" in said.stderr and not said.stdout
    (tmp_path / "g.yaml").write_text(ONE)
    said = command("plan", "g.yaml", "--repeat", "5", cwd=tmp_path)
    assert said.returncode == 2 and "this file plans a game day" in said.stderr
    said = command("gameday", "nowhere.yaml", "--no-web", cwd=tmp_path)
    assert said.returncode == 2 and "nowhere.yaml: no such file" in said.stderr


def test_the_worked_plan_of_the_documents_is_valid() -> None:
    day = planned(EXAMPLE.read_text())
    assert 3 <= len(day.drills) <= 5 and any(drill.blind for drill in day.drills)
    assert all(drill.hypothesis and drill.expect for drill in day.drills)
    assert set(day.file.roles) == {"operator", "observer", "responder"} and day.seconds < 3600
