"""Suite files: what a person may write, and the one line that tells what is wrong with it and where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.model.errors import UsageError
from harness.model.records.alerts import AlertsPlan
from harness.plan.experiment import Experiment
from harness.plan.suite.items import experiment_of
from harness.plan.suite.suite_file import MOST, SuiteFile, decode
from harness.suite.prepare import plan_suite
from tests.support.command import command

HARNESS = Path(sys.executable).parent / "harness"
ONE = "experiments: [redis-down]\n"


def read(text: str) -> SuiteFile:
    return decode(text.encode(), "s.yaml")


def test_all_that_may_be_said_of_an_experiment() -> None:
    file = read(
        "name: checkout\nprofile: quick\nexclude: {kafka-hang: the broker is shared}\nallow: [redis-flush]\n"
        "baseline: 15s\ntargets: [p95 < 1s]\nexperiments:\n  - redis-down\n  - none\n"
        "  - name: slow database\n    faults: [db-latency:latency=1s]\n    targets: ['fault: p95 < 2s']\n"
        "    may_fail: [POST /x]\n    must_hold: [GET /health]\n    fault_for: 30s\n    weight: 2\n"
    )
    assert (file.title, file.profile, file.allow) == ("checkout", "quick", ("redis-flush",))
    assert file.exclude == {"kafka-hang": "the broker is shared"} and file.settings["baseline"] == 15.0
    down, _, slow = file.items
    assert [item.name for item in file.items] == ["redis-down", "control", "slow database"]
    assert slow.may_fail == ("POST /x",) and slow.settings == {"fault_s": 30.0} and slow.weight == 2.0
    made = experiment_of(slow, Experiment(baseline_s=15.0))
    assert (made.baseline_s, made.fault_s) == (15.0, 30.0)
    assert made.targets == ("fault: p95 < 2s",) and slow.must_hold == ("GET /health",)
    assert experiment_of(down, Experiment()).targets == ()


def test_expected_alerts_are_beside_those_of_all_and_need_somebody_who_looks() -> None:
    (item,) = read("experiments:\n  - {faults: [redis-down], expected-alerts: [CacheDown, Slow, Slow]}\n").items
    assert item.expected_alerts == ("CacheDown", "Slow")
    seen = AlertsPlan(prometheus="http://127.0.0.1:9090", expected=("Slow", "Any"))
    made = experiment_of(item, Experiment(alerts=seen))
    assert made.alerts is not None and made.alerts.expected == ("Slow", "Any", "CacheDown")
    assert made.alerts.prometheus == seen.prometheus
    with pytest.raises(UsageError, match="nobody looks at alerts, as the expected alert 'CacheDown' needs"):
        experiment_of(item, Experiment())


BAD = [
    ("experiments:\n  - {faults: [redis-down], expected_alerts: Down}\n", "experiments[0].expected_alerts"),
    ("experiments:\n  - faults: [redis-down]\n    expected_alerts: ['a{b}']\n", "s.yaml:3: experiments[0].expected_"),
    (ONE + "expected_alerts: [Down]\n", "s.yaml:2: expected_alerts"),
    ("", "s.yaml"),
    ("[]", "s.yaml:1"),
    ("name: x\n", "the suite is empty"),
    ("experiments: []\n", "s.yaml:1: experiments: the suite is empty"),
    ("experiments: 3\n", "s.yaml:1: experiments"),
    ("experiments: {redis-down: 1}\n", "s.yaml:1: experiments"),
    ("experiments:\n  - [redis-down]\n", "s.yaml:2: experiments[0]"),
    ("experiments:\n  - redis-down\n  - redis-down\n", "s.yaml:3: experiments[1]: the name 'redis-down' is"),
    ("experiments:\n  - redis-down@1s\n  - redis-down@2s\n", "is there twice"),
    ("experiments:\n  - name: x\n", "s.yaml:2: experiments[0]: `faults` is missing"),
    ("experiments:\n  - fault: redis-down\n", "experiments[0].fault: unknown key"),
    ("experiments:\n  - {faults: [redis-down], request_timeout: 5s}\n", "it is the same for all"),
    ("experiments:\n  - {faults: [redis-down], weight: 0}\n", "0 is no weight"),
    ("experiments:\n  - {faults: [redis-down], weight: .nan}\n", "s.yaml:2: experiments[0].weight"),
    ("experiments:\n  - {faults: [redis-down], weight: 1001}\n", "is no weight"),
    ("experiments:\n  - {faults: [redis-down], targets: [p95 <]}\n", "s.yaml:2: experiments[0].targets[0]"),
    ("experiments:\n  - {faults: [redis-down], must_hold: GET /}\n", "experiments[0].must_hold"),
    ("experiments:\n  - {faults: [redis-down], must_hold: ['']}\n", "experiments[0].must_hold[0]"),
    ("profile: standrad\n", "s.yaml:1: profile: no profile 'standrad'"),
    (ONE + "exclude: [redis-down]\n", "s.yaml:2: exclude"),
    (ONE + "faults: [redis-down]\n", "s.yaml:2: faults: not a key of a suite file"),
    (ONE + "experimnts: []\n", "did you mean 'experiments'"),
    (ONE + "baseline: 20\n", "s.yaml:2: baseline"),
    (ONE + ONE, "s.yaml:2"),
    ("experiments: &a [*a]\n", "s.yaml:1"),
    ("a: &a [x, x]\nb: &b [*a, *a]\nexperiments: *b\n", "s.yaml:1"),
    ("experiments: !!python/object/apply:os.system [true]\n", "s.yaml:1"),
    ("experiments:\n  <<: {a: b}\n", "s.yaml:2"),
    ("experiments: [redis-down\n", "s.yaml"),
    ("\tx: 1\n", "s.yaml:1"),
    ("experiments: [" + "[" * 500 + "]" * 500 + "]\n", "s.yaml"),
    (ONE + "---\n" + ONE, "s.yaml"),
    ("experiments: [" + ", ".join(f"e{i}" for i in range(10_000)) + "]\n", f"a suite has {MOST} at most"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_wrong_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    line = str(raised.value)
    assert said in f"{line} {raised.value.hint}" and line.startswith("s.yaml"), line
    assert "\n" not in line and len(line) < 400, line


def test_bytes_that_are_no_text_are_one_line() -> None:
    for content in (b"\xff\xfe\x00", b"a\x00b", b"\x80: 1\n"):
        with pytest.raises(UsageError, match=r"^s\.yaml"):
            decode(content, "s.yaml")


def test_an_experiment_may_have_a_load_of_its_own() -> None:
    file = decode(b"experiments: [none, {faults: [none], name: jump, scenario: spike}]\n", "s.yaml")
    assert [item.own_load for item in file.items] == [False, True]


COMMANDS = [
    ("experiments: [mysql-down]\n", [], "unknown fault 'mysql-down'"),
    ("experiments:\n  - none\n  - redis-dwon\n", [], "did you mean 'redis-down'"),
    ("experiments:\n  - {faults: [redis-latency:latncy=1s]}\n", [], "s.yaml:2"),
    (ONE + "scenario: targt\n", [], "did you mean 'target'"),
    (ONE + "exclude: {kafka-down: x}\n", [], "the suite has no experiment 'kafka-down'"),
    (ONE + "exclude: {redis-down: x}\n", [], "the suite is empty"),
    ("profile: quick\nallow: [redis-flsh]\n", [], "s.yaml:2: allow: the suite has no experiment 'redis-flsh'"),
    ("experiments:\n  - {faults: [none], fault_for: 1s}\n", [], "too short"),
    (ONE, ["--only", "kafka-*"], "error: --only: no experiment fits kafka-*"),
    (ONE, ["--profile", "quick"], "write `profile: NAME`"),
    (ONE, ["--fault", "none"], "--fault belongs to a single run"),
    (ONE, ["--time-limit", "soon"], "--time-limit"),
]


@pytest.mark.parametrize(("text", "options", "said"), COMMANDS)
def test_a_suite_that_cannot_be_touches_nothing(tmp_path: Path, text: str, options: list[str], said: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    done = command("suite", "run", "s.yaml", *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    first, *hints = done.stderr.splitlines()
    assert first.startswith("error: ") and said in done.stderr and len(hints) <= 1 and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_a_suite_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for name in ("s.yaml", "."):
        done = subprocess.run(
            [str(HARNESS), "suite", "run", name], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr and not list(tmp_path.iterdir()), done.stderr


def test_what_is_expected_to_fail_is_known_to_the_plan_of_that_experiment_alone() -> None:
    file = read("experiments:\n  - none\n  - {faults: [redis-down], may_fail: [GET /x]}\n")
    control, down = plan_suite(Experiment(), None, file=file).items
    assert down.plan.may_fail_with == {"GET /x": ("redis",)} and not control.plan.may_fail_with
    assert down.plan.load.classes == control.plan.load.classes and down.plan.seed == control.plan.seed
