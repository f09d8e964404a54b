"""The record of a game day as a page, Markdown, CSV and checklist: what it says, what it must not say, what a hostile
folder makes of it."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli.commands.many_runs.gameday import gameday
from harness.model.errors import UsageError
from harness.model.jsonl import encode
from harness.model.records.many_runs.gameday import Act, DrillRecord, GameDayRecord
from harness.model.records.result import RecoveryResult
from harness.report.gameday import actions, html, markdown
from harness.report.gameday import sentences as say
from harness.report.gameday.evidence import Evidence
from harness.report.gameday.files import FORMATS, render, write, write_game_day_reports
from harness.report.html.document import MAX_BYTES, NOTHING_ELSE, hash_of
from tests.analysis.gamedays import act, carried_out, day_plan, drill_plan, folder, found, one_drill, record
from tests.analysis.histories import Scene, failing
from tests.report import browser, sample
from tests.report.browser import Elements

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[31m\u202e::error::@team [a](javascript:1) |"
INJECTED = 20.0 + sample.INJECTED_S


def first_screen(page: str) -> str:
    return page[page.index("<header") : page.index("</header>")]


def plain(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def usual() -> GameDayRecord:
    """One confirmed, one refuted and noticed, one aborted, one skipped, one that nobody planned."""
    plan = day_plan(
        drill_plan(1),
        drill_plan(2, "db", blind=True),
        drill_plan(3, "kafka"),
        drill_plan(4, "db", name="again"),
        prerequisites=("somebody can say stop", "on-call knows"),
    )
    runbook = act(450.0, "action", text="write a runbook", owner="Bo", due="2027-01-31", severity="high", drill=2)
    acts = [
        act(1.0, "tick", what=1),
        act(5.0, "abort"),
        *carried_out(1, 25.0, act(99.0, "observed", text="a short peak", drill=1)),
        *carried_out(2, 300.0, act(INJECTED + 290.0, "see", "Bo", drill=2, text="errors"), runbook),
        *carried_out(3, 600.0, act(650.0, "abort", drill=3)),
        act(820.0, "skip", drill=4),
        act(821.0, "inject", drill=5, text="redis-latency:latency=1s"),
        *carried_out(5, 822.0)[1:],
        act(1100.0, "note", "Bo", text="a good day"),
    ]
    results = {1: found("pass"), 2: found("fail", 1505), 3: found("inconclusive", None), 5: found("pass")}
    return record(acts, results, plan)


def test_the_first_screen_has_counts_cautions_drills_and_actions() -> None:
    page = html.render(usual(), Evidence())
    top = plain(first_screen(page))
    for said in (
        "5 drills: confirmed 2, refuted 1, not decided 0, aborted 1, skipped 1.",
        "1,505 bad requests beyond what was usual before, counted in 3 of 4 drills.",
        "1 of 2 prerequisites not ticked: on-call knows.",
        "the API answers without it",
        "recovered after 1.3s",
        "Noticed by Bo",
        "db-down (blind)",
        "aborted by Ada",
        "write a runbook Bo 2027-01-31 high 2 harness run --fault db-down",
    ):
        assert said in top, said
    rest = plain(page[page.index("</header>") :])
    for said in (
        "Planned, and what happened",
        "0:25 (35s earlier)",
        "planned 1m, took 25s",
        "planned at least 1m40s, took 3m20s",
        "ticks prerequisite 1",
        "somebody can say stop ticked by Ada",
        "of the fields by the harness",
        "Bo responder",
        "a good day",
        "Ada: a short peak",
    ):
        assert said in rest, said


def test_what_is_not_there_is_not_on_the_page() -> None:
    page = html.render(record([], plan=day_plan(drill_plan(1), roles={})), Evidence())
    assert "None were written down." in page and "nothing was injected" in page
    for said in ("<h2>Drills", "<h2>Notes", "<h2>Prerequisites", "<h2>People", 'class="note"', "Noticed by", "Shaded"):
        assert said not in page, said


def test_there_is_no_script_and_the_policy_allows_none() -> None:
    page = html.render(usual(), Evidence())
    elements = Elements(page)
    assert elements.count("script") == 0 and elements.count("form") == 0
    assert not any(name.startswith("on") or name == "style" for _, attrs in elements.tags for name in attrs)
    (policy,) = [attrs["content"] for _, attrs in elements.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    style = page[page.index("<style>") + len("<style>") : page.index("</style>")]
    assert policy == f"{NOTHING_ELSE}; style-src {hash_of(style)}"


def test_colour_is_never_the_only_signal() -> None:
    page = html.render(usual(), Evidence())
    for outcome in re.findall(r'<span class="outcome [^"]*">(.*?)</span>', page, flags=re.DOTALL):
        assert re.sub(r"<[^>]*>", "", outcome).strip()


# -- a folder ----------------------------------------------------------------------------------------------------------


def test_a_drill_whose_record_is_there_has_charts_with_the_fault_shaded(tmp_path: Path) -> None:
    at = folder(tmp_path, [act(5.0, "abort"), *carried_out(1, 25.0), *carried_out(2, 300.0)])
    run = Scene(service=failing(23.0, 43.0, 0.5), rate=20.0).build()
    run.write(at / "drill-01")
    (at / "drill-01" / "result.json").write_bytes(encode(run.judge()))
    (at / "drill-01" / "report.html").write_text("its own", encoding="utf-8")
    page = render(at, "html")
    first, second = page[page.index('id="drill-1"') :].split('id="drill-2"')
    assert first.count('class="plot"') == 3 and 'class="fault"' in first and "redis-down" in first
    assert "Shaded: the fault was active" in first
    assert (
        'class="plot"' not in second
        and "Shaded" not in second
        and "Its result is missing, and its record cannot be read" in second
    )
    links = {attrs["href"] for tag, attrs in Elements(page).tags if tag == "a"}
    assert {link for link in links if not link.startswith("#")} == {"drill-01/report.html"}
    said = render(at, "md")
    assert "[drill-01](drill-01/report.html)" in said and "drill-02](" not in said
    assert len(page.encode()) <= MAX_BYTES


def test_all_forms_are_written_and_the_same_again(tmp_path: Path) -> None:
    at = folder(tmp_path, carried_out(1, 25.0), {1: sample.result("pass")})
    made = write(at)
    names = ["gameday.json", *(name for name, _ in FORMATS.values())]
    before = {name: (at / name).read_bytes() for name in names}
    assert msgspec.json.decode(before["gameday.json"], type=GameDayRecord) == made
    write(at)
    assert {name: (at / name).read_bytes() for name in names} == before


def test_the_command_prints_a_form_or_writes_all(tmp_path: Path) -> None:
    at = folder(tmp_path, carried_out(1, 25.0), {1: sample.result("pass")})
    runner = CliRunner()
    for format_, said in (
        ("html", "<!DOCTYPE html>"),
        ("md", "# the first one"),
        ("csv", "action,owner"),
        ("json", "{"),
    ):
        done = runner.invoke(gameday, ["report", str(at), "--format", format_], standalone_mode=False)
        assert done.exception is None and done.output.startswith(said)
    assert not (at / "record.html").exists(), "a form that is printed is not written"
    done = runner.invoke(gameday, ["report", str(at)], standalone_mode=False)
    assert done.output == f"{at}/record.html\n" and (at / "actions.md").exists()


def test_a_folder_that_is_none_or_cannot_be_written_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="this is not a game day's directory"):
        write(tmp_path)
    at = folder(tmp_path, carried_out(1, 25.0), {1: sample.result("pass")})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.report.gameday.files.replace_file", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        write(at)
    said: list[str] = []
    made = write_game_day_reports(at, said.append)
    assert made is not None and said == ["the record cannot be written: No space left on device"]


# -- what people wrote is text -----------------------------------------------------------------------------------------


def hostile(**more: Any) -> GameDayRecord:
    drill = drill_plan(
        1,
        name=HOSTILE,
        hypothesis=HOSTILE,
        expect=HOSTILE,
        faults=(HOSTILE,),
        dependencies=(HOSTILE,),
        command=HOSTILE,
        blind=True,
    )
    words = dict.fromkeys(
        ("title", "zero", "scenario", "stack", "target_url", "harness", "machine", "command"), HOSTILE
    )
    plan = day_plan(drill, target_version=HOSTILE, prerequisites=(HOSTILE,), roles={"operator": (HOSTILE,)}, **words)
    texts: dict[str, Any] = {"text": HOSTILE, "drill": 1}
    acts: list[Act] = [act(1.0, "tick", HOSTILE, what=1, role="operator")]
    for at, kind in enumerate(("note", "mark", "observed", "see", "think", "mitigated", "action", "abort"), start=110):
        acts.append(act(float(at), kind, HOSTILE, role="operator", owner=HOSTILE, due=HOSTILE, **texts))  # type: ignore[arg-type]
    return record(carried_out(1, 25.0, *acts), {1: found("fail", 5, reasons=(HOSTILE,))}, plan)


def test_hostile_words_are_text_in_every_form() -> None:
    day = hostile()
    page, said, listed = html.render(day, Evidence()), markdown.render(day, Evidence()), actions.as_checklist(day)
    elements = Elements(page)
    assert elements.count("script") == 0 and elements.count("img") == 0
    assert not any(name.startswith("on") for _, attrs in elements.tags for name in attrs)
    for made in (page, said, listed, actions.as_csv(day)):
        assert "\x1b" not in made and "\u202e" not in made and "::error::" not in made
    for made in (said, listed):
        assert not re.search(r"(?<!\\)<script|(?<!\\)\[a\]|^#+ <", re.sub(r"`[^`\n]*`", "", made))
        assert "@team" not in re.sub(r"`[^`\n]*`", "", made), "nobody is called"


@pytest.mark.parametrize("start", ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", "\t=1+1", "\r=1"])
def test_a_spreadsheet_takes_nothing_for_a_formula(start: str) -> None:
    item = act(60.0, "action", text=start, owner=start, due=start, drill=1)
    rows = list(csv.reader(io.StringIO(actions.as_csv(record([item])))))
    assert rows[0] == list(actions.COLUMNS) and len(rows) == 2
    assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in rows[1])
    assert start.strip() in rows[1][0]


def test_a_comma_a_quote_and_a_line_end_stay_in_their_cell() -> None:
    item = act(60.0, "action", text='first, "then"\nlast', owner="Bo", severity="low")
    rows = list(csv.reader(io.StringIO(actions.as_csv(record([item])))))
    assert rows[1][0] == 'first, "then"\\nlast' and rows[1][1:4] == ["Bo", "", "low"]


def test_a_day_that_nobody_could_have_had_is_still_a_page() -> None:
    """Thousands of acts, each as long as it may be, and drills that nobody planned among them."""
    kinds = ("note", "action", "see", "think", "observed")
    acts = [act(1.0, "tick", "W" * 500, what=1, role="operator")]
    for number in range(1000):
        drill = number + 1
        acts.append(act(2.0 + number, "started", "harness", drill=drill, directory=f"drill-{drill:02d}"))
        acts += [
            act(2.0 + number, kind, f"{'<' * 400}{number}", text="&" * 500, drill=1, role="operator") for kind in kinds
        ]  # type: ignore[arg-type]
    plan = day_plan(
        *(drill_plan(one, blind=True, hypothesis="<" * 5000) for one in range(1, 51)), prerequisites=("&" * 500,) * 500
    )
    day = record(acts, {1: found("fail", 5)}, plan)
    page = html.render(day, Evidence())
    assert len(page.encode()) <= MAX_BYTES and "more drills are in gameday.json" in page
    assert len(markdown.render(day, Evidence())) < 2_000_000


@pytest.mark.slow
def test_a_browser_shows_it_without_a_complaint_and_fetches_nothing(tmp_path: Path) -> None:
    browser.find()
    for name, day in (("usual", usual()), ("hostile", hostile())):
        (tmp_path / f"{name}.html").write_text(html.render(day, Evidence()), encoding="utf-8")
        seen = browser.look(tmp_path / f"{name}.html")
        assert seen.console == ()
        assert all(url.startswith("file:") for url in seen.requests)


# -- every sentence is a claim -----------------------------------------------------------------------------------------


def test_the_headline_counts_each_drill_once() -> None:
    assert say.headline(usual()) == "5 drills: confirmed 2, refuted 1, not decided 0, aborted 1, skipped 1."
    assert say.headline(record([])) == "2 drills: confirmed 0, refuted 0, not decided 0, not run 2."
    lost = record(carried_out(1, 25.0), {}, day_plan(drill_plan(1)))
    assert say.headline(lost) == "1 drill: confirmed 0, refuted 0, not decided 0, without a result 1."


def test_bad_requests_are_of_all_drills_only_where_all_were_counted() -> None:
    acts = [*carried_out(1, 25.0), *carried_out(2, 300.0)]
    both = say.length(record(acts, {1: found("fail", 1), 2: found("pass", 0)}))
    assert both == "8m21s; 1 bad request beyond what was usual before, in all."
    one = say.length(record(acts, {1: found("fail", 7), 2: found("inconclusive", None)}))
    assert "7 bad requests" in one and "counted in 1 of 2 drills." in one and "in all" not in one
    none = say.length(record(acts, {1: found("inconclusive", None)}))
    assert none == "8m21s; bad requests could not be counted." and "0 bad" not in none
    assert say.length(record([])).endswith("nothing was injected.")


def test_cautions_are_said_where_they_are_due() -> None:
    plan = day_plan(drill_plan(1), prerequisites=("a", "b"))
    tried = [act(1.0, "tick", what=1), act(2.0, "tick", what=2), act(5.0, "abort")]
    assert say.cautions(record([*tried, *carried_out(1, 25.0)], {1: found()}, plan)) == []
    assert say.cautions(record([*tried[:2]], plan=plan)) == [], "nothing was broken, so no abort is missed"
    worse = found("fail", 5)
    fault = msgspec.structs.replace(worse.result.faults[0], undo_verified=False, proven=False)
    worse = msgspec.structs.replace(worse, result=msgspec.structs.replace(worse.result, faults=(fault,)))
    said = " ".join(say.cautions(record(carried_out(1, 25.0)[:-1], {1: worse}, plan, closed=False)))
    for one in (
        "not closed in order",
        "The abort was not tried before the first drill.",
        "2 of 2 prerequisites not ticked: a; b.",
        "Undo not verified: drill 1.",
        "Fault not proven: drill 1.",
        "No end on record: drill 1.",
    ):
        assert one in said


def test_many_prerequisites_are_counted_and_three_named() -> None:
    (said,) = say.cautions(record([], plan=day_plan(prerequisites=("a", "b", "c", "d", "e"))))
    assert said == "5 of 5 prerequisites not ticked: a; b; c; and 2 more."


def without_recovery(outcome: str) -> RecoveryResult:
    return RecoveryResult(
        outcome=outcome,  # type: ignore[arg-type]
        seconds=None,
        lower_s=None,
        upper_s=None,
        zero_s=sample.ZERO_S,
        from_undo_requested_s=None,
        drain_s=None,
    )


def aborted(kind: sample.Kind, **more: Any) -> DrillRecord:
    return one_drill(kind, act(60.0, "abort", "ada", drill=1), **more)


def test_what_was_found_is_said_and_nothing_more() -> None:
    held, broken, open_ = (say.found(one_drill(kind)) for kind in ("pass", "fail", "inconclusive"))
    assert held == "The hypothesis was confirmed: every primary target was held."
    assert broken.startswith("The hypothesis was refuted: a primary target was broken.")
    assert "Users were hurt 100ms after the injection. It recovered after 1.3s." in broken
    assert "not decided" in open_ and "The fault was not proven." in open_ and "hurt" not in open_
    assert "not proven" not in held + broken and "injected" not in held

    unsaid = say.found(one_drill("pass", plan=drill_plan(1, hypothesis="")))
    assert unsaid == "No hypothesis was written down; every primary target was held."

    never = say.found(one_drill("fail", recovery=without_recovery("not_recovered")))
    assert "It did not recover while it was watched." in never and "recovered after" not in never
    assert "Whether it recovered is not decided." in say.found(
        one_drill("fail", recovery=without_recovery("undecided"))
    )
    assert "recover" not in say.found(one_drill("fail", recovery=without_recovery("not_judged")))


def test_an_abort_leaves_only_what_was_broken_by_then() -> None:
    assert say.found(aborted("inconclusive", recovery=without_recovery("undecided"))).startswith("Aborted by ada.")
    assert "hypothesis" not in say.found(aborted("inconclusive")) and "refuted" not in say.answer(
        aborted("inconclusive")
    )
    assert "The hypothesis was refuted" in say.found(aborted("fail"))
    assert say.answer(aborted("fail")) == "aborted by ada; refuted"
    nothing = say.found(aborted("inconclusive", faults=()))
    assert "Nothing was injected." in nothing and "proven" not in nothing


def test_without_a_result_there_is_no_finding() -> None:
    (drill,) = record(carried_out(1, 25.0), {1: "its result is missing"}, day_plan(drill_plan(1))).drills
    assert say.found(drill) == "Its result is missing. There is no result." and say.outcome(drill) == "no result"


def test_responders_of_a_blind_drill() -> None:
    blind = drill_plan(1, blind=True)
    told = " ".join(say.responders(one_drill("fail", plan=blind)))
    assert "Nobody said that something was wrong. Nobody said what it was." in told
    assert "The service was well again" in told and "as measured" in told

    heard = one_drill(
        "fail",
        act(INJECTED + 10.1, "see", "Bo", drill=1, text="errors"),
        act(INJECTED + 30.1, "think", "Bo", drill=1, text="redis"),
        plan=blind,
    )
    told = " ".join(say.responders(heard))
    assert "Noticed 10s after the impact began, by Bo." in told
    assert "Diagnosed rightly 30s after the impact began, by Bo." in told
    assert "Nobody" not in told and "No diagnosis" not in told
    assert say.noticed(heard) == "Bo, 10s after the impact began"


def test_nobody_is_blamed_where_nobody_was_asked() -> None:
    """Of a drill that was not blind: that somebody saw it is told, and not that nobody named what all knew."""
    seen = one_drill("fail", act(INJECTED + 10.1, "see", "Bo", drill=1))
    told = " ".join(say.responders(seen))
    assert "Noticed 10s" in told and "Nobody" not in told and "diagnosis" not in told
    assert say.responders(one_drill("fail")) == [] and say.noticed(one_drill("fail")) == ""


def test_nobody_is_said_to_have_been_unhurt_unless_it_was_measured() -> None:
    see = act(INJECTED + 10.0, "see", "Bo", drill=1)
    assert "No target was broken." in say.responders(one_drill("pass", see))
    for drill in (one_drill("inconclusive", see), one_drill("fail", see)):
        assert "No target was broken." not in say.responders(drill)
    told = " ".join(say.responders(one_drill("inconclusive", see)))
    assert "after the injection" in told and "well again" not in told


def test_what_came_before_the_impact_noticed_nothing() -> None:
    told = " ".join(say.responders(one_drill("fail", act(INJECTED - 9, "see", "Bo", drill=1))))
    assert "Nobody said after the impact began that something was wrong." in told


def test_a_diagnosis_is_called_wrong_only_where_it_names_something_else() -> None:
    plan = day_plan(drill_plan(1), drill_plan(2, "db"))

    def said(text: str) -> tuple[str, str]:
        acts = carried_out(1, 25.0, act(INJECTED + 30.1, "think", "Bo", drill=1, text=text))
        drill = record(acts, {1: found("fail")}, plan).drills[0]
        assert drill.responders is not None
        return say.spoken(drill.responders.said[0]), " ".join(say.responders(drill))

    assert said("redis")[0] == 'Bo, +30.0 s, diagnoses: "redis" (names what was broken)'
    assert said("the db")[0].endswith("(names something else)")
    assert said("the cache")[0] == 'Bo, +30.0 s, diagnoses: "the cache"'
    assert "No diagnosis named redis." in said("the cache")[1] and "No diagnosis" not in said("redis")[1]


def test_when_it_was_well_again_is_not_known_only_where_there_was_an_impact() -> None:
    see = act(INJECTED + 10.0, "see", "Bo", drill=1)
    unknown = "When the service was well again is not known."
    assert unknown in say.responders(one_drill("fail", see, recovery=without_recovery("undecided")))
    assert unknown not in say.responders(one_drill("fail", see, recovery=without_recovery("not_recovered")))
    assert unknown not in say.responders(one_drill("fail", see)) and unknown not in say.responders(
        one_drill("pass", see)
    )


def test_what_was_not_planned_has_no_plan_to_be_late_for() -> None:
    day = usual()
    assert say.pace(day.drills[0]) == (
        "1:00",
        "0:25 (35s earlier)",
        "planned 1m, took 25s",
        "planned at least 1m40s, took 3m20s",
    )
    assert say.pace(day.drills[4]) == ("", "13:42", "took 22s", "took 3m20s")
    assert say.pace(day.drills[3]) == ("9:00", "", "planned 1m", "planned at least 1m40s")
    assert say.pace(record(carried_out(1, 60.2), {1: found()}).drills[0])[1] == "1:00 (on time)"


def test_an_action_item_says_what_it_lacks() -> None:
    bare, whole = (
        act(60.0, "action", text="x"),
        act(61.0, "action", text="y", owner="Bo", due="2027-01-31", severity="low"),
    )
    said = actions.as_checklist(record([bare, whole]))
    assert "- [ ] x (nobody yet, no date)\n- [ ] y (Bo, due 2027-01-31, low)\n" in said
    assert "test again" not in said, "it belongs to no drill"
    assert "None were written down." not in said and "None were written down." in actions.as_checklist(record([]))
