"""Experiment files: what a person may write, and the one line that tells what is wrong with it and where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.model.errors import UsageError
from harness.plan.experiment_file import KEYS, ExperimentFile, decode
from harness.plan.files.entries import FaultEntry, RandomFaults, Repeat
from harness.plan.files.strict_yaml import MAX_BYTES
from tests.plan.test_planner import make

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = sorted(path for path in (DOCS / "examples").glob("*.yaml") if path.name != "gameday.yaml")
"""The game day's is a test of its own."""


def read(text: str) -> ExperimentFile:
    return decode(text.encode(), "x.yaml")


def faults(text: str) -> tuple[object, ...]:
    found: tuple[object, ...] = read(f"faults:\n{text}").values["faults"]
    return found


def test_every_key_is_read_as_the_option_of_its_name() -> None:
    file = read(
        "scenario: target\nstack: external\nhost: http://127.0.0.1:1\nlocustfile: a.py\nuser_classes: [A, B]\n"
        "scale: 0.5\nrate: 1,000\nusers: 10\nspawn_rate: 2.5\nrun_time: 10m\nmodel: open\narrivals: constant\n"
        "max_in_flight: 9\nrequest_timeout: 5s\nwarmup: 0s\nbaseline: 30s\nfault_for: 20s\nrecovery_limit: 1m\n"
        "hold: 15s\nsoak: 1m30s\nstrict: true\nseed: 7\nworkers: 2\nfaults: [none]\ntargets: [p95 < 1s]\n"
        "abort_if: [x]\nno_extend: true\nextend_fault: true\nno_trace: true\n"
        "tags: [read]\nexclude_tags: [slow]\nlocust_args: [--tenant=blue]\n"
    )
    found = file.values
    assert [found[key] for key in ("rate", "scale", "soak", "strict", "seed")] == [1000.0, 0.5, 90.0, True, 7]
    assert found["user_classes"] == ("A", "B") and found["model"] == "open" and found["warmup"] == 0.0
    assert set(found) == set(file.lines) == set(KEYS)


def test_what_is_not_written_is_left_to_others() -> None:
    assert list(read("faults: [redis-down]").values) == ["faults"]


def test_options_may_be_spelled_as_on_the_command_line() -> None:
    assert read("fault-for: 20s\nfaults: [none]").values["fault_for"] == 20.0


def test_faults_as_text_as_mapping_repeated_and_drawn() -> None:
    found = faults(
        "  - kafka-latency:latency=500ms@10s+20s\n"
        "  - {fault: redis-latency, latency: 1s, at: 10s, for: 20s, repeat: {every: 30s, times: 5}}\n"
        "  - random: {choose: [redis-down, db-down], every: 20s, for: 5s, until: 2m, at: 1m}\n"
    )
    assert found == (
        FaultEntry(where="x.yaml:2: faults[0]", fault="kafka-latency:latency=500ms@10s+20s"),
        FaultEntry(
            where="x.yaml:3: faults[1]",
            fault="redis-latency",
            params={"latency": "1s"},
            at_s=10.0,
            for_s=20.0,
            repeat=Repeat(every_s=30.0, times=5),
        ),
        RandomFaults(
            where="x.yaml:4: faults[2].random",
            choose=("redis-down", "db-down"),
            every_s=20.0,
            for_s=5.0,
            until_s=120.0,
            at_s=60.0,
        ),
    )


REFUSED: list[tuple[str, str]] = [
    ("", "x.yaml: the file is empty"),
    ("# only a comment\n", "the file is empty"),
    ("---\n---\n", "second document"),
    ("a: 1\n---\nb: 2\n", "second document"),
    ("just words", "no mapping"),
    ("- a\n- b\n", "no mapping"),
    ("faults: [none]\nfaults: [redis-down]\n", "x.yaml:2: key 'faults' is there twice, first in line 1"),
    ("fault_for: 5s\nfault-for: 6s\n", "x.yaml:2: fault-for: is there twice"),
    ("faults:\n  - {fault: redis-down, at: 1s, at: 2s}\n", "'at' is there twice"),
    ("faults: &all [redis-down]\n", "anchor"),
    ("baseline: &b 30s\nwarmup: *b\n", "anchor"),
    ("faults: *all\n", "x.yaml:1: *all is an alias"),
    ("<<: {a: 1}\n", "merge key"),
    ("seed: !!int 7\n", "!!int"),
    ("seed: !!python/object/apply:os.system ['x']\n", "tag"),
    ("\tfaults: [none]\n", "x.yaml:1: indented with a tab"),
    ("faults:\n\t- none\n", "x.yaml:2: indented with a tab"),
    ("faults: [none\n", "not YAML"),
    ("faults: {none\n", "not YAML"),
    ("host: a: b\n", "put the value in quotes"),
    ("? [a]\n: b\n", "a key that is no word"),
    ("[" * 100 + "]" * 100, "nested more than"),
    ("a: [" + "1, " * 30_000 + "]", "more than 20,000 values"),
    ("senario: target\n", "x.yaml:1: senario: unknown key did you mean 'scenario'?"),
    ("faults: [none]\nphases: {warmup: 10s}\n", "x.yaml:2: phases: not a key of this file"),
    ("allow_hosts: [example.com]\n", "--allow-host"),
    ("baseline: 10:30\n", "'10:30' is the number 630 to YAML 1.1, a time of day to people write 10m30s"),
    ("baseline: 1:00:00\n", "3600"),
    ("baseline: off\n", "'off' is false to YAML"),
    ("baseline: 30\n", "30s"),
    ("baseline: -30s\n", "negative"),
    ("baseline: 25h\n", "over 24 hours"),
    ("baseline:\n", "baseline: has no value"),
    ("baseline: ~\n", "has no value"),
    ("baseline: [30s]\n", "a list, where one value belongs"),
    ("strict: yes\n", "'yes' is not true or false write true"),
    ("strict: off\n", "write false"),
    ("strict: 1\n", "write true or false"),
    ('strict: "true"\n', "write true"),
    ("seed: 010\n", "octal"),
    ("seed: 0x1F\n", "not a whole number"),
    ("seed: 1e3\n", "not a whole number"),
    ("seed: 1_000\n", "not a whole number"),
    ("seed: 7.5\n", "not a whole number"),
    ("seed: -1\n", "must not be negative"),
    ("seed: 99999999999999999999\n", "out of range"),
    ("workers: 1.5\n", "not a whole number"),
    ("scale: on\n", "'on' is true to YAML"),
    ("scale: .inf\n", "scale"),
    ("scale: 2%\n", "scale"),
    ("model: opne\n", "did you mean 'open'"),
    ("stack: docker\n", "one of: embedded, compose, external"),
    ("faults: redis-down\n", "not a list"),
    ("faults: []\n", "faults: [none]"),
    ("faults:\n", "faults: has no value"),
    ("faults: [[redis-down]]\n", "faults[0]: a list, not a fault"),
    ("faults:\n  - redis-latency: latency=5s\n", "without a space after the colon: redis-latency:latency=5s"),
    ("faults:\n  - {at: 5s}\n", "faults[0]: `fault` is missing"),
    ("faults:\n  - {fault: 'redis-down@5s'}\n", "faults[0].fault: 'redis-down@5s' is more than a name"),
    ("faults:\n  - {fault: redis-down, for: off}\n", "faults[0].for: 'off' is false to YAML"),
    ("faults:\n  - {fault: redis-down, at: 10:30}\n", "faults[0].at: '10:30' is the number 630"),
    ("faults:\n  - {fault: redis-down, for: 0s}\n", "faults[0].for: 0 is no duration"),
    ("faults:\n  - {fault: redis-down, repeat: 5}\n", "faults[0].repeat: not a mapping"),
    ("faults:\n  - {fault: redis-down, repeat: {every: 5s}}\n", "faults[0].repeat: `times` is missing"),
    (
        "faults:\n  - none\n  - none\n  - {fault: redis-down, repeat: {every: 5s, tims: 3}}\n",
        "x.yaml:4: faults[2].repeat.tims: unknown key did you mean 'times'?",
    ),
    (
        "faults:\n  - {fault: redis-down, repeat: {every: 5s, times: 1}}\n",
        "faults[0].repeat.times: count '1': out of range",
    ),
    ("faults:\n  - random: {choose: redis-down, every: 5s, until: 9s}\n", "faults[0].random.choose: not a list"),
    ("faults:\n  - random: {choose: [], every: 5s, until: 9s}\n", "the list is empty"),
    ("faults:\n  - random: {choose: [redis-down], every: 5s}\n", "`until` is missing"),
    ("faults:\n  - {random: {}, fault: redis-down}\n", "faults[0].fault: unknown key"),
    ("targets:\n  - fault: error_rate < 5%\n", 'put it in quotes: "fault: error_rate < 5%"'),
    ("targets: [p95 <]\n", "targets[0]"),
    ("targets: [p59 < 2s]\n", "targets[0]"),
    ("targets: p95 < 2s\n", "targets: not a list"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=[says[:40] for _, says in REFUSED])
def test_what_may_surprise_is_refused_in_one_line_that_says_where(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    message = f"{caught.value} {caught.value.hint or ''}"
    assert says in message, message
    assert "\n" not in message and message.startswith("x.yaml")


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UsageError, match=r"x\.yaml:2: not UTF-8"):
        decode(b"scenario: target\nhost: \xff\xfe\n", "x.yaml")
    with pytest.raises(UsageError, match="not UTF-8"):
        decode("scenario: target".encode("utf-16"), "x.yaml")
    with pytest.raises(UsageError, match="not YAML"):
        decode(b"scenario: \x00\n", "x.yaml")
    assert decode(b"\xef\xbb\xbfscenario: target\n", "x.yaml").values == {"scenario": "target"}, (
        "a byte order mark is no content"
    )


def test_a_file_over_a_megabyte_is_refused() -> None:
    with pytest.raises(UsageError, match="over 1 MB"):
        decode(b"#" * (MAX_BYTES + 1), "x.yaml")


@pytest.mark.parametrize("word", ["off", "yes", "10:30", "010", "0x10", "1e3", "null", "2026-01-01", "true", "1_000"])
def test_a_word_that_yaml_would_change_stays_the_text_it_is(word: str) -> None:
    """Where text is wanted it arrives as written; null is nothing, and told so."""
    if word == "null":
        with pytest.raises(UsageError, match="has no value"):
            read(f"host: {word}")
        return
    assert read(f"host: {word}").values["host"] == word
    entry = faults(f"  - {{fault: redis-latency, latency: {word}}}")[0]
    assert isinstance(entry, FaultEntry) and entry.params == {"latency": word}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_every_example_file_makes_a_plan(path: Path) -> None:
    _planned(decode(path.read_bytes(), path.name))


def test_every_example_in_the_page_makes_a_plan() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "experiments.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        _planned(decode(block.encode(), "experiments.md"))


def _planned(file: ExperimentFile) -> None:
    values = file.values
    plan = make(
        timeline=values["faults"],
        target_layers=(values.get("targets", ()),),
        abort_if=values.get("abort_if", ()),
        seed=values.get("seed", 1),
    )
    assert plan.faults and plan.phases.fault_s > 0


def test_the_example_names_every_key() -> None:
    example = (DOCS / "examples" / "chaos.yaml").read_text(encoding="utf-8")
    for key in KEYS:
        assert re.search(rf"^(# )?{key}:|`{key}: ", example, re.MULTILINE), f"not in the example: {key}"
