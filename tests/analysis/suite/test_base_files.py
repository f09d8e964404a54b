"""resilience-base.json and resilience-known.toml: written in one order, whole; read as anybody's."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest

from harness.analysis.suite.accept import accepted
from harness.analysis.suite.base_files import BASE, MAX_BASE, known_file, read_base, read_known, write_accepted
from harness.analysis.suite.suite_file import read_suite
from harness.model.errors import UsageError
from harness.model.records.many_runs.gate import Base, Known
from tests.analysis.suite.suites import attempt, cell, experiment, suite

DAY = date(2026, 11, 30)
NASTY = 'GET /"a"\\b\n[[known]]\tümläut 😀 \x7f\x00 #x = 1'


def made(names: int = 2, experiments: int = 2, name: str = "GET /{}") -> tuple[Base, tuple[Known, ...]]:
    cells = [cell(name.format(i), "broken" if i == 0 else "held") for i in range(names)]
    every = [experiment(f"e{i:02d}-down", attempt("broken", cells)) for i in range(experiments)]
    return accepted(suite(*every), owner="me", reason=NASTY, until=date(2027, 1, 12), ticket="T-1", today=DAY)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    base, known = made(name=NASTY.replace("{", "") + " {}")
    path, owned = write_accepted(tmp_path / BASE, base, known)
    assert owned == tmp_path / "resilience-known.toml" == known_file(path)
    assert read_base(path) == base and read_known(owned, DAY) == known and known[0].reason == NASTY
    first = path.read_bytes(), owned.read_bytes()
    write_accepted(path, base, known)
    assert (path.read_bytes(), owned.read_bytes()) == first
    assert sorted(one.name for one in tmp_path.iterdir()) == ["resilience-base.json", "resilience-known.toml"]
    assert known_file(tmp_path / "nightly.json").name == "nightly-known.toml"


def test_nothing_is_known_where_there_are_no_files(tmp_path: Path) -> None:
    assert read_base(tmp_path / BASE) is None and read_known(tmp_path / "resilience-known.toml", DAY) == ()
    empty = write_accepted(tmp_path / BASE, made()[0], ())[1]
    assert read_known(empty, DAY) == ()


def test_sixty_experiments_of_twenty_requests_fit_and_more_are_refused(tmp_path: Path) -> None:
    base, known = made(20, 60, "GET /api/v1/customers/orders/items/{}")
    path, _ = write_accepted(tmp_path / BASE, base, known)
    assert 50_000 < path.stat().st_size <= MAX_BASE == 100_000
    before = path.read_bytes()
    large, known = made(200, 60)
    with pytest.raises(UsageError, match="KB, and 100 are the most"):
        write_accepted(path, large, known)
    assert path.read_bytes() == before


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / BASE).symlink_to(tmp_path / "other")
    write_accepted(tmp_path / BASE, *made())
    assert (tmp_path / "other").read_text() == "mine" and not (tmp_path / BASE).is_symlink()
    with pytest.raises(UsageError, match="cannot be written"):
        write_accepted(tmp_path / "nowhere" / BASE, *made())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"[]", "is damaged"),
        (b"null", "is damaged"),
        (b'{"schema": 2}', "schema 2"),
        (b'{"schema": 1, "name": 3}', "is damaged"),
        (b'{"schema": 1, "name": "' + b"x" * 90_000, "is damaged"),
        (b'{"experiments": {"a": {"definition": "", "outcome": "' + b"x" * 90_000 + b'"}}}', "outcome`|is damaged"),
        (b" " * 100_001, "over 0.1 MB"),
    ],
)
def test_a_damaged_base_is_one_line(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / BASE
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        read_base(path)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_torn_base_is_one_line(tmp_path: Path, cut: float) -> None:
    path, _ = write_accepted(tmp_path / BASE, *made())
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data)) - 2])
    with pytest.raises(UsageError, match="is damaged"):
        read_base(path)


GOOD = '[[known]]\nexperiment = "e"\nrequest = "A"\nowner = "me"\nreason = "r"\nuntil = "2027-01-12"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[known]", "not TOML"),
        ("x = " + "[" * 10_000, "not TOML"),
        ("known = 3", "is damaged"),
        ("other = 3", "is damaged"),
        ("schema = 2", "schema 2"),
        (GOOD.replace("owner", "ovner"), "is damaged"),
        (GOOD + "typo = 1\n", "is damaged"),
        (GOOD + 'since = "2026-12-01"\n', "yet to come"),
        (GOOD + 'since = "\\u001b[31m"\n', "no date"),
        (GOOD + "since = 2026-11-30T10:00:00\n", "no date"),
        (GOOD.replace('"me"', '" "'), "must not be empty"),
        (GOOD.replace('"r"', '""'), "must not be empty"),
        (GOOD.replace("2027-01-12", "soon"), "is no date"),
        (GOOD.replace("2027-01-12", "2028-01-12"), "180 days at most"),
        (GOOD + "at_most = nan\n", "neither a share"),
        (GOOD + "at_most = inf\n", "neither a share"),
        (GOOD + "at_most = -1\n", "neither a share"),
        (GOOD + GOOD, "the same weakness twice"),
    ],
)
def test_a_damaged_list_of_known_weaknesses_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "resilience-known.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_known(path, DAY)
    assert "\n" not in str(caught.value)
    path.write_text(GOOD)
    assert len(read_known(path, DAY)) == 1
    path.write_text(GOOD.replace("2027-01-12", "2020-01-12"))  # expired is no damage
    assert len(read_known(path, DAY)) == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / BASE)
    with pytest.raises(UsageError, match="is a pipe"):
        read_base(tmp_path / BASE)


def written(folder: Path, **more: object) -> dict[str, object]:
    value = msgspec.to_builtins(suite(experiment("redis-down", attempt("held", {"A": "held"})), **more))
    (folder / "suite.json").write_bytes(msgspec.json.encode(value))
    assert isinstance(value, dict)
    return value


def test_a_suite_is_read_back(tmp_path: Path) -> None:
    written(tmp_path)
    assert read_suite(tmp_path) == suite(experiment("redis-down", attempt("held", {"A": "held"})))
    with pytest.raises(UsageError, match="not a suite's directory"):
        read_suite(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"n":100', b'"n":-1'),
        (b'"bad":0', b'"bad":101'),
        (b'"failed":0', b'"failed":7'),
        (b'"allowed":0.05', b'"allowed":5'),
        (b'"weight":1.0', b'"weight":-1'),
        (b'"weight":1.0', b'"weight":1e999'),
        (b'"recovery_s":null', b'"recovery_s":-5'),
        (b'"low":100.0', b'"low":101'),
        (b'"score":{"held":1', b'"score":{"held":2'),
        (b'"n":100', b'"n":9000000000000000'),
        (b'"exit_code":0', b'"exit_code":77'),
        (b'"schema":1', b'"schema":2'),
        (b'"experiments":[', b'"experiments":[7,'),
        (b"}", b""),
    ],
)
def test_a_damaged_suite_is_one_line(tmp_path: Path, old: bytes, new: bytes) -> None:
    written(tmp_path)
    path = tmp_path / "suite.json"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(UsageError, match=r"is damaged|schema 2") as caught:
        read_suite(tmp_path)
    assert "\n" not in str(caught.value)


def test_two_experiments_of_one_name_and_a_request_twice_cannot_be(tmp_path: Path) -> None:
    one = experiment("redis-down", attempt("held", [cell("A"), cell("A")]))
    for made, words in ((suite(experiment("e"), experiment("e")), "two experiments"), (suite(one), "twice")):
        (tmp_path / "suite.json").write_bytes(msgspec.json.encode(made))
        with pytest.raises(UsageError, match=words):
            read_suite(tmp_path)
