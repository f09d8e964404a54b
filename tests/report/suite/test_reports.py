"""The resilience report as a page, Markdown and JUnit, of folders as a suite leaves them and as a stranger may."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.commands.report import report
from harness.model.errors import UsageError
from harness.model.jsonl import encode
from harness.report.html.document import MAX_BYTES, NOTHING_ELSE, hash_of
from harness.report.suite import files
from tests.analysis.suite.suites import attempt, cell, experiment, suite
from tests.report import browser, sample
from tests.report.browser import Elements

from .samples import HOSTILE, alerted, folder, gate_of_mixed, held, large, mixed

DAY = date(2026, 12, 1)
"""The samples were made the day before."""


def render(at: Path, format_: str, today: date = DAY) -> str:
    return files.render(at, format_, today)


def first_screen(page: str) -> str:
    return page[page.index("<header") : page.index("</header>")]


def test_the_first_screen_has_counts_the_worst_and_what_to_do_first(tmp_path: Path) -> None:
    at = folder(tmp_path, mixed(), gate_of_mixed())
    (at / "01-redis-down" / "plan.json").write_bytes(encode(sample.plan_of("fail")))
    (at / "01-redis-down" / "result.json").write_bytes(encode(sample.result("fail")))
    top = first_screen(render(at, "html"))
    for said in (
        "held 2, broken 2, unknown 1, not run 1 of 6",
        "Score 33 to 67 of 100",
        "With db-down, GET /health and POST /orders fail.",
        "With redis-down, GET /products fails and GET /search is too slow.",
        "No fallback for redis",
        "no advice is at hand: start with the report",
        "failed, 1 newly broken",
    ):
        assert said in top
    assert "%" not in re.sub(r"<svg.*?</svg>", "", top, flags=re.DOTALL)


def test_a_suite_that_broke_nothing_has_no_weaknesses_and_no_gate(tmp_path: Path) -> None:
    page = render(folder(tmp_path, held()), "html")
    assert "Nothing that was tried broke." in first_screen(page)
    for said in ("The worst", "What is broken", "Weaknesses, the worst first", "Known weaknesses", "accepted base"):
        assert said not in page


def test_whether_anybody_noticed_is_told_of_each_experiment_and_expected_alert(tmp_path: Path) -> None:
    at = folder(tmp_path / "a", alerted())
    page, told = render(at, "html"), render(at, "md")
    for text in (page, told):
        assert "Of 2 expected alerts that could be judged 1 detected the impact" in text
        assert "1 fired without impact, 1 not judged; 2 false alarms." in text and "carried over" not in text
        assert text.count("TooLate") == 2 and "fault too short" in text
    assert "| redis-down | CacheDown | detected | between 6s and 7s |" in told
    section = page[page.index("Did anybody notice?") :]
    section = section[: section.index("</section>")]
    assert section.count("<tr><td") == 4 and 'href="01-redis-down/report.html"' in section and "db-down" not in section
    hostile = folder(tmp_path / "b", alerted(HOSTILE))
    assert "<script>" not in render(hostile, "html") and "<script>" not in render(hostile, "md")
    for found in (mixed(), held(), suite()):
        silent = folder(tmp_path / f"c{len(found.experiments)}", found)
        assert "anybody notice" not in render(silent, "html") + render(silent, "md")


def test_what_is_old_is_marked_as_stale(tmp_path: Path) -> None:
    at = folder(tmp_path, mixed(), gate_of_mixed())
    later = date(2026, 12, 31)
    for format_ in ("html", "md", "junit"):
        assert "tale" not in render(at, format_)
    page = render(at, "html", later)
    assert "Stale, as of 2026-12-31: 31 days old: redis-down, db-down" in first_screen(page)
    assert "Stale, as of" in render(at, "md", later) and "❌ broken, stale" in render(at, "md", later)
    assert "Stale, as of" in render(at, "junit", later)
    # An experiment that was not run has no outcome that could be.
    assert page.count('<span class="observed">stale') == 6  # the undecided one is listed twice


def test_an_empty_suite_has_a_page() -> None:
    assert "Nothing was tried" in _page(suite())


def _page(found: object) -> str:
    from harness.report.suite.evidence import Evidence
    from harness.report.suite.html import render as html
    from harness.report.suite.sentences import weaknesses

    return html(found, None, weaknesses(found), Evidence(), DAY)  # type: ignore[arg-type]


def test_there_is_no_script_and_the_policy_allows_none(tmp_path: Path) -> None:
    page = render(folder(tmp_path, mixed(), gate_of_mixed()), "html")
    elements = Elements(page)
    assert elements.count("script") == 0
    assert not any(name.startswith("on") or name == "style" for _, attrs in elements.tags for name in attrs)
    (policy,) = [attrs["content"] for _, attrs in elements.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    style = page[page.index("<style>") + len("<style>") : page.index("</style>")]
    assert policy == f"{NOTHING_ELSE}; style-src {hash_of(style)}"


@pytest.mark.slow
def test_a_browser_shows_it_without_a_complaint_and_fetches_nothing(tmp_path: Path) -> None:
    browser.find()
    seen = browser.look(_written(folder(tmp_path, mixed(), gate_of_mixed())))
    assert seen.console == ()
    assert all(url.startswith("file:") for url in seen.requests)


def _written(at: Path) -> Path:
    files.write_suite_reports(at, print, DAY)
    return at / "report.html"


def test_colour_is_never_the_only_signal(tmp_path: Path) -> None:
    page = render(folder(tmp_path, mixed()), "html")
    for outcome in re.findall(r'<span class="outcome [^"]*">(.*?)</span>', page, flags=re.DOTALL):
        assert re.sub(r"<[^>]*>", "", outcome).strip()


def test_outcomes_lead_to_the_reports_that_are_there(tmp_path: Path) -> None:
    at = folder(tmp_path, mixed(), reports=["01-redis-down"])
    links = {attrs["href"] for tag, attrs in Elements(render(at, "html")).tags if tag == "a"}
    assert {link for link in links if not link.startswith("#")} == {"01-redis-down/report.html"}


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", "javascript:alert(1)", "x\n", "http:x", ""])
def test_a_directory_that_is_no_plain_name_is_no_link(tmp_path: Path, name: str) -> None:
    at = folder(tmp_path / "s", suite(experiment("db-down", attempt("broken", directory=name))), reports=[])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "report.html").write_text("outside", encoding="utf-8")
    assert "report.html" not in render(at, "html")
    assert "](" not in render(at, "md")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder(tmp_path / "other", held())
    at = folder(tmp_path / "s", suite(experiment("db-down", attempt("broken", directory="01-x"))), reports=[])
    (at / "01-x").symlink_to(tmp_path / "other" / "01-redis-down")
    assert "report.html" not in render(at, "html")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    cells = [cell(HOSTILE, "broken", 90)]
    one = experiment(
        HOSTILE,
        attempt("broken", cells, reason=HOSTILE, reset=HOSTILE, broken_targets=(HOSTILE,)),
        dependency=HOSTILE,
        kind=HOSTILE,
        command=HOSTILE,
    )
    words = dict.fromkeys(("name", "target_url", "machine", "command", "scenario", "harness", "started"), HOSTILE)
    found = suite(one, experiment("x", why=HOSTILE), reasons=(HOSTILE,), warnings=(HOSTILE,), **words)
    at = folder(tmp_path, found, reports=[])
    page, text, junit = (render(at, format_) for format_ in ("html", "md", "junit"))
    elements = Elements(page)
    assert not {"script", "img", "iframe"} & {tag for tag, _ in elements.tags}
    assert not any(name.startswith("on") for _, attrs in elements.tags for name in attrs)
    for made in (page, text, junit):
        assert "\x1b" not in made
        assert "\u202e" not in made
        assert "::error::" not in made
    plain = re.sub(r"(`+).*?\1", "", text)  # code spans show what is in them
    assert "<script" not in plain.replace("\\<", "")
    assert "@team" not in plain
    ET.fromstring(junit)


@pytest.mark.parametrize("found", [large(), large(40, 12, HOSTILE), large(800, 20, "GET /" + "x" * 300)])
def test_a_page_is_at_most_400_kb(tmp_path: Path, found: object) -> None:
    page = _page(found)
    assert len(page.encode()) <= MAX_BYTES


def test_forty_experiments_are_all_on_the_page() -> None:
    page = _page(large())
    assert "more in suite.json" not in page
    assert "more experiments are in suite.json" not in page


def test_what_is_left_out_of_an_absurd_suite_is_counted() -> None:
    assert re.search(r"[0-9]+ more experiments are in suite.json", _page(large(800, 20, "GET /" + "x" * 300)))


def test_the_isolation_map_says_what_is_declared(tmp_path: Path) -> None:
    page = render(folder(tmp_path, mixed()), "html")
    assert "declared independent" in page
    assert "may fail" in page
    assert "Everything froze in db-down" in page


def test_markdown_has_the_worst_the_table_and_the_commands(tmp_path: Path) -> None:
    text = render(folder(tmp_path, mixed(), gate_of_mixed()), "md")
    assert "**Weaknesses found: held 2, broken 2, unknown 1, not run 1 of 6.**" in text
    assert "1. With db-down, GET /health and POST /orders fail." in text
    assert "[redis-down](01-redis-down/report.html) | ❌ broken" in text
    assert "Again: `harness run --fault db-down`" in text
    assert "team-orders" in text
    assert "Weaknesses, the worst first" not in render(folder(tmp_path / "h", held()), "md")


def test_junit_has_a_case_an_experiment(tmp_path: Path) -> None:
    root = ET.fromstring(render(folder(tmp_path, mixed(), gate_of_mixed()), "junit"))
    found = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert found == {
        "redis-down": ["failure"],
        "db-down": ["skipped"],
        "db-latency": [],
        "redis-hang": ["error"],
        "kafka-down": ["skipped"],
        "control": [],
        "gate": ["failure"],
    }
    known = next(case for case in root.iter("testcase") if case.get("name") == "db-down").find("skipped")
    assert known is not None
    assert "no fallback yet" in str(known.get("message"))


def test_junit_without_a_gate_skips_nothing_that_is_broken(tmp_path: Path) -> None:
    root = ET.fromstring(render(folder(tmp_path, mixed()), "junit"))
    assert root.get("failures") == "2"
    assert not [case for case in root.iter("testcase") if case.get("name") in ("gate", "session")]


def test_junit_tells_of_a_session_that_ended_badly(tmp_path: Path) -> None:
    at = folder(tmp_path, suite(*held().experiments, exit_code=130, reasons=("it was interrupted",)))
    (case,) = [c for c in ET.fromstring(render(at, "junit")).iter("testcase") if c.get("name") == "session"]
    assert case.find("error") is not None


def test_what_a_damaged_result_holds_is_missing_and_no_more(tmp_path: Path) -> None:
    at = folder(tmp_path, mixed())
    (at / "02-db-down" / "result.json").write_text("{", encoding="utf-8")
    assert "no advice is at hand" in render(at, "html")


@pytest.mark.parametrize(
    ("name", "data"), [("gate.json", b"{"), ("gate.json", b'{"exit_code": 77, "sentence": ""}'), ("suite.json", b"[")]
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    at = folder(tmp_path, held())
    (at / name).write_bytes(data)
    with pytest.raises(UsageError, match="is damaged"):
        render(at, "html")


@pytest.mark.parametrize("field", ["harm", "seconds", "violating_s", "lost_writes"])
def test_absurd_numbers_are_refused(tmp_path: Path, field: str) -> None:
    at = folder(tmp_path, mixed())
    data = json.loads((at / "suite.json").read_bytes())
    data["experiments"][0]["attempts"][0][field] = 10**300
    (at / "suite.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError):
        render(at, "html")


def test_the_command_makes_every_form_of_a_suite(tmp_path: Path) -> None:
    at = folder(tmp_path, held())
    for format_, begins in (("html", "<!DOCTYPE html>"), ("md", "# "), ("junit", "<?xml"), ("json", "{")):
        done = CliRunner().invoke(report, [str(at), "--format", format_], standalone_mode=False)
        assert done.exception is None
        assert done.output.startswith(begins)


def test_a_suite_writes_its_reports_and_says_what_is_in_the_way(tmp_path: Path) -> None:
    said: list[str] = []
    at = folder(tmp_path, held())
    files.write_suite_reports(at, said.append, DAY)
    assert said == []
    assert {"report.html", "report.md", "junit.xml"} <= {path.name for path in at.iterdir()}
    (at / "gate.json").write_text("{", encoding="utf-8")
    files.write_suite_reports(at, said.append, DAY)
    assert len(said) == 3
    assert all("could not be made" in line for line in said)
