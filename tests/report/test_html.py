"""report.html in a real Chromium."""

from __future__ import annotations

import html as html_escape
import random
import re
import unicodedata
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from harness.analysis.record.spans import fault_spans
from harness.analysis.verdict.timeline import ChartData
from harness.model.records.events import Event, FaultInjected, Undone
from harness.model.records.result import SignalResult
from harness.report import junit
from harness.report.html import charts, svg
from harness.report.html import document as html
from harness.report.sentences import text

from . import browser
from .sample import (
    END_S,
    HOSTILE,
    INJECTED_S,
    SENT_S,
    UNDONE_S,
    ZERO_S,
    Kind,
    history,
    plan,
    plan_of,
    planned_fault,
    result,
)
from .sample_chart import chart


def rendered(kind: Kind) -> str:
    return html.render(plan_of(kind), result(kind), chart(kind), history(kind), "runs/x")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> browser.Seen:
    browser.find()
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(rendered("hostile"), encoding="utf-8")
    return browser.look(page)


@pytest.mark.slow
def test_every_chart_is_drawn_and_no_script_fails(hostile: browser.Seen) -> None:
    assert hostile.console == ()
    panels = charts.panels(plan_of("hostile"), result("hostile"), chart("hostile"), history("hostile"))
    assert f'data-drawn="{len(panels)}"' in hostile.dom
    for panel in panels:
        drawn = plot(hostile.dom, panel.id)
        assert drawn.count("data-series=") == len(panel.entries)
        assert re.search(r'class="line"[^>]* d="M|d="M[^>]*class="line"', drawn)


@pytest.mark.slow
def test_the_page_asks_for_nothing_but_itself(hostile: browser.Seen) -> None:
    asked = [
        url for url in hostile.requests if not url.startswith(("file:", "data:", "chrome:", "about:", "devtools:"))
    ]
    assert asked == []


@pytest.mark.slow
def test_a_request_would_have_been_seen(tmp_path: Path) -> None:
    page = tmp_path / "asking.html"
    page.write_text("<img src=http://127.0.0.1:9/image><script>fetch('https://fonts.example/css')</script>")
    assert set(browser.look(page).requests) >= {"http://127.0.0.1:9/image", "https://fonts.example/css"}


@pytest.mark.slow
def test_hostile_names_do_not_run(hostile: browser.Seen) -> None:
    """The sample's names try to set the title, by script and by an image's error handler."""
    page = browser.Elements(hostile.dom)
    assert page.title == "FAIL: redis-down / target"
    assert page.count("script") == 2
    assert page.count("img") == 0
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert "\x1b" not in hostile.dom
    assert "\u202e" not in hostile.dom
    assert "{{ 7 * 7 }}" in hostile.dom


@pytest.mark.slow
def test_a_broken_escape_would_still_not_run(tmp_path: Path) -> None:
    """The second wall: the page's policy. A script is put where escaping has failed, and does nothing."""
    page = tmp_path / "report.html"
    holed = rendered("pass").replace(
        "<footer>", "<script>document.title='owned'</script><img src=http://127.0.0.1:9/x>"
    )
    page.write_text(holed, encoding="utf-8")
    seen = browser.look(page)
    assert browser.Elements(seen.dom).title == "PASS: redis-down / target"
    assert len([line for line in seen.console if "Content Security Policy" in line]) >= 2
    assert not [url for url in seen.requests if url.startswith("http")]


def plot(dom: str, panel: str) -> str:
    return dom[dom.index(f'id="panel-{panel}"') :].split('<div class="panel"')[0].split("</section>")[0]


def view(figure: str) -> ET.Element:
    """What is drawn of a chart: in tenths of a second across."""
    found = ET.fromstring(figure).find(".//svg[@class='view']")
    assert found is not None
    return found


def shaded(figure: str, kind: str) -> list[tuple[float, float]]:
    paths = [path.get("d", "") for path in view(figure).iter("path") if path.get("class") == kind]
    found = [re.findall(r"M(\d+) 0V1000H(\d+)V0z", path) for path in paths]
    return [(int(start) / 10, int(end) / 10) for spans in found for start, end in spans]


def panels_of(kind: Kind = "fail", **chart_fields: object) -> tuple[charts.Panel, ...]:
    data = msgspec.structs.replace(chart(kind), **chart_fields)
    return charts.panels(plan_of(kind), result(kind), data, history(kind))


def test_every_panel_has_the_same_shading_and_axis() -> None:
    for panel in panels_of():
        assert view(panel.figure).get("viewBox") == f"0 0 {round(END_S * 10)} 1000"
        assert shaded(panel.figure, "fault") == [(round(SENT_S, 1), round(UNDONE_S, 1))]
        assert shaded(panel.figure, "recovery") == [(round(ZERO_S + 1.2, 1), round(ZERO_S + 1.4, 1))]
        lines = [path.get("d") for path in view(panel.figure).iter("path") if path.get("class") == "at-zero"]
        assert lines == [f"M{round(ZERO_S * 10)} 0V1000"]


def test_shading_comes_from_the_record_and_not_from_the_plan() -> None:
    """Planned for 60 s, but the run was interrupted after 20."""
    spans = fault_spans(history("interrupted"))
    assert [(span.start_s, span.end_s) for span in spans] == [(SENT_S, 92.02)]
    without_undo = [event for event in history("fail") if "Und" not in type(event).__name__]
    assert [span.end_s for span in fault_spans(without_undo)] == [None]


def test_a_one_shot_is_a_moment_and_not_the_rest_of_the_run() -> None:
    """A flushed cache has nothing to undo: no `undone` event will ever end it."""
    planned = planned_fault("redis-flush")
    change = msgspec.structs.replace(planned.change, one_shot=True)
    flush = plan(msgspec.structs.replace(planned, change=change, for_s=None))
    events = [
        msgspec.structs.replace(e, fault="redis-flush") for e in history("fail") if type(e).__name__ == "FaultInjected"
    ]
    figure = charts.panels(flush, result("fail"), chart("fail"), events)[0].figure
    assert shaded(figure, "fault") == [(round(SENT_S, 1), round(INJECTED_S, 1))]
    fault = msgspec.structs.replace(result("fail").faults[0], name="redis-flush", undone_s=None, undo_verified=None)
    judged = msgspec.structs.replace(result("fail"), faults=(fault,))
    assert "nothing to undo (one-shot)" in html.render(flush, judged, chart("fail"), events)
    assert "undone and verified" not in junit.render(flush, judged)


def test_a_flapping_fault_is_shaded_each_time_and_named_once() -> None:
    events: list[Event] = []
    for i in range(5):
        name = "redis-down" if i == 0 else f"redis-down#{i + 1}"
        events.append(FaultInjected(at=80.0 + 4 * i, wall="", experiment="", fault=name, sent_s=80.0 + 4 * i))
        events.append(Undone(at=82.0 + 4 * i, wall="", experiment="", fault=name, sent_s=82.0 + 4 * i))
    figure = charts.panels(plan_of("fail"), result("fail"), chart("fail"), events)[0].figure
    assert shaded(figure, "fault") == [(80 + 4 * i, 82 + 4 * i) for i in range(5)]
    names = [words.text for words in ET.fromstring(figure).iter("text") if words.get("class") == "fault"]
    assert names == ["redis-down"]


def driven(tmp_path: Path, script: str) -> str:
    """The page after a script of the test, so without the page's policy, which would refuse it."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", rendered("fail"))
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    seen = browser.look(path)
    assert seen.console == ()
    return seen.dom


@pytest.mark.slow
def test_the_buttons_zoom_every_chart(tmp_path: Path) -> None:
    dom = driven(tmp_path, "document.querySelectorAll('button[data-from]')[2].click()")
    for panel in panels_of():
        shown = re.findall(r'class="tick"[^>]*>([\d.]+) s<', plot(dom, panel.id))
        assert shown, panel.id
        assert all(ZERO_S - 3 <= float(tick) <= ZERO_S + 6 for tick in shown), panel.id


POINTER = """
const area = document.querySelectorAll(".area")[AT], box = area.getBoundingClientRect();
const point = (kind, share) => area.dispatchEvent(new PointerEvent(kind,
  {bubbles: true, button: 0, clientX: box.left + share * box.width, clientY: box.top + 40}));
"""


@pytest.mark.slow
def test_hovering_tells_every_series_at_that_instant(tmp_path: Path) -> None:
    dom = driven(tmp_path, POINTER.replace("AT", "0") + 'point("pointermove", 0.5)')
    for panel in panels_of():
        told = re.findall(r'class="value">([^<]*)<', plot(dom, panel.id))
        index = max(i for i, start in enumerate(panel.grid) if start <= END_S / 2)
        wanted = [values[index] for values in panel.values]
        assert [None if one == " no data" else float(one.replace(",", "")) for one in told] == wanted
    assert "94.7 s 16:02:34" in dom


@pytest.mark.slow
def test_dragging_zooms_and_a_double_click_resets(tmp_path: Path) -> None:
    drag = (
        POINTER.replace("AT", "2") + 'point("pointerdown", 0.25); point("pointermove", 0.5); point("pointerup", 0.5);'
    )
    views = re.findall(r'class="view"[^>]*viewBox="([^"]+)"', driven(tmp_path, drag))
    assert len(views) == len(panels_of())
    for shown in views:
        left, _, width, _ = (float(part) for part in shown.split())
        assert (left, width) == pytest.approx((END_S * 2.5, END_S * 2.5), abs=0.1)
    dom = driven(tmp_path, drag + 'area.dispatchEvent(new MouseEvent("dblclick", {bubbles: true}))')
    assert set(re.findall(r'class="view"[^>]*viewBox="([^"]+)"', dom)) == {f"0 0 {END_S * 10:g} 1000"}


@pytest.mark.slow
def test_a_click_on_a_name_hides_its_line_and_another_shows_it(tmp_path: Path) -> None:
    click = "document.querySelector('#panel-latency [data-entry=\"1\"]').click();"
    once, twice = (plot(driven(tmp_path, click * times), "latency") for times in (1, 2))
    assert re.findall(r'data-series="(\d)"[^>]*display="none"', once) == ["1"]
    assert not re.findall(r'data-series="(\d)"[^>]*display="none"', twice)


def test_missing_data_is_a_gap_and_says_so() -> None:
    for panel in panels_of()[:4]:
        assert shaded(panel.figure, "nodata") == [(150.0, 156.0)]
        for entry, values in zip(panel.entries, panel.values, strict=True):
            inside = [v for at, v in zip(panel.grid, values, strict=False) if 150 <= at < 156]
            assert inside and (set(inside) == {None}) is (entry.name != "planned")
    cpu = next(panel for panel in panels_of() if panel.id == "cpu")
    assert "no data" in {cell.text for row in cpu.table.rows if row.cells[2].text == "fault" for cell in row.cells}


def test_outside_text_is_escaped_in_a_chart() -> None:
    names = {name: [1.0] * len(chart().sample_t) for name in HOSTILE}
    signals = {name: SignalResult(by_phase={"baseline": 100.0, "fault": 1.0}, counter=False) for name in HOSTILE}
    made = msgspec.structs.replace(result("fail"), signals=signals)
    data = msgspec.structs.replace(chart(), signals=names, failures={name: [1.0] * len(chart().t) for name in HOSTILE})
    events = [msgspec.structs.replace(e, fault=HOSTILE[0]) if hasattr(e, "fault") else e for e in history("fail")]
    for panel in charts.panels(plan_of("fail"), made, data, events):
        figure = ET.fromstring(panel.figure)
        assert {element.tag for element in figure.iter()} <= {"div", "svg", "g", "rect", "path", "text"}
        assert text.visible(HOSTILE[0], 60) in [words.text for words in figure.iter("text")]
    page = browser.Elements(html.render(plan_of("fail"), made, data, events))
    assert page.count("script") == 2 and page.count("img") == 0


@pytest.mark.slow
def test_a_run_that_recorded_nothing_has_a_page_too(tmp_path: Path) -> None:
    empty = msgspec.structs.replace(
        chart(),
        t=[],
        lengths_s=[],
        planned_rps=[],
        rps=[],
        failures={},
        p50_ms=[],
        p95_ms=[],
        p99_ms=[],
        in_flight=[],
        sample_t=[],
        cpu={},
        rss={},
        signals={},
    )
    nothing = msgspec.structs.replace(
        result("interrupted"),
        phases=(),
        requests=(),
        totals=(),
        targets=(),
        faults=(),
        recovery=None,
        impact=None,
        signals={},
    )
    page = html.render(plan_of("fail"), nothing, empty, [])
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    seen = browser.look(path)
    assert seen.console == ()
    assert 'data-drawn="0"' in seen.dom
    assert "No request failed" not in seen.dom
    assert "n/a" not in page.split("<h2>What was not measured")[0].split("</header>")[1]
    assert "Nothing was recorded." in seen.dom


def long_run(minutes: int = 10) -> tuple[ChartData, dict[str, SignalResult]]:
    """10,000 requests a second, with every kind of failure, eight processes and as many signals as are shown."""
    draw = random.Random(5)
    t = [float(i) for i in range(60 * minutes)]
    data = ChartData(
        step_s=1.0,
        t=t,
        lengths_s=[1.0] * len(t),
        planned_rps=[10_000.0] * len(t),
        rps=[draw.gauss(10_000, 100) for _ in t],
        failures={kind: [draw.uniform(1, 900) for _ in t] for kind in charts.KINDS},
        p50_ms=[draw.uniform(8, 12) for _ in t],
        p95_ms=[draw.uniform(20, 60) for _ in t],
        p99_ms=[900.0 if at == 301 else draw.uniform(60, 200) for at in t],
        failed_p95_ms=[draw.uniform(900, 1500) for _ in t],
        in_flight=[draw.uniform(50, 5000) for _ in t],
        sample_t=t,
        cpu={f"tree-{i}": [draw.uniform(0, 2) for _ in t] for i in range(8)},
        rss={f"tree-{i}": [draw.uniform(1e7, 1e9) for _ in t] for i in range(8)},
        signals={f"signal_{i}_total": [draw.uniform(0, 1e4) for _ in t] for i in range(100)},
    )
    signals = {name: SignalResult(by_phase={"baseline": 1.0, "fault": 5000.0}, counter=True) for name in data.signals}
    return data, signals


def long_page() -> str:
    data, signals = long_run()
    return html.render(plan_of("fail"), msgspec.structs.replace(result("fail"), signals=signals), data, history("fail"))


def test_a_long_run_s_page_is_at_most_400_kb() -> None:
    page = long_page().encode()
    assert len(page) <= 400_000
    assert not re.findall(rb'(?:src|href)\s*=\s*["\']?(?:https?:)?//', page)


def test_a_fault_that_flaps_a_thousand_times_does_not_make_the_page_larger() -> None:
    data, signals = long_run()
    events: list[Event] = []
    for i in range(1000):
        name = "redis-down" if i == 0 else f"redis-down#{i + 1}"
        at = 80.0 + i / 2
        events.append(FaultInjected(at=at, wall="", experiment="", fault=name, sent_s=at))
        events.append(Undone(at=at + 0.2, wall="", experiment="", fault=name, sent_s=at + 0.2))
    one = result("fail").faults[0]
    faults = [msgspec.structs.replace(one, name=f"redis-down#{i + 1}", proven=i != 500) for i in range(1000)]
    made = msgspec.structs.replace(result("fail"), signals=signals, faults=tuple(faults))
    page = html.render(plan_of("fail"), made, data, events)
    assert len(page.encode()) <= 400_000
    assert "970 more in result.json" in page and "redis-down#501 <" in page


def test_a_record_of_any_length_is_drawn() -> None:
    """Numbers of a record from elsewhere: neither an endless row of ticks nor a clock beyond its years."""
    axis = svg.TimeAxis(start=0.0, end=1e300, began=datetime.now(UTC))
    assert len(axis.ticks()) <= 11 and axis.clock(1e300) == ""


def test_many_names_and_errors_do_not_make_the_page_larger() -> None:
    data, signals = long_run()
    one = result("fail")
    rows = tuple(
        msgspec.structs.replace(row, name=f"GET /a/long/name/of/a/request/{i}")
        for i in range(100)
        for row in one.requests
    )
    errors = tuple(msgspec.structs.replace(one.errors[0], name=f"GET /{i}", example='<&"' * 200) for i in range(300))
    made = msgspec.structs.replace(one, signals=signals, requests=rows, setup=(), errors=errors)
    page = html.render(plan_of("fail"), made, data, history("fail"))
    assert len(page.encode()) <= 400_000
    assert f"{len(rows) - 100} more in result.json" in page and "250 more" in page


def test_a_peak_of_one_second_is_drawn_and_told_in_a_long_run() -> None:
    data, _ = long_run()
    panel = charts.panels(plan_of("fail"), result("fail"), data, history("fail"))[2]
    assert "A point is the mean of 2s" in panel.note
    assert [row for row in panel.table.rows if any("(900)" in cell.text for cell in row.cells)]
    around = next(g for g in view(panel.figure).iter("g") if g.get("data-series") == "2").find("path[@class='around']")
    assert around is not None
    highest = min(int(y) for y in re.findall(r"M\d+ (\d+)V", around.get("d", "")))
    scale = svg.Scale.fitting([1500.0, 8.0], logarithmic=True)
    assert highest == pytest.approx(scale.down(900), abs=15)


def test_every_series_is_in_the_legend_and_in_the_numbers_below() -> None:
    page = browser.Elements(rendered("fail"))
    assert page.count("details") >= len(panels_of())
    for panel in panels_of():
        names = [entry.name for entry in panel.entries]
        assert [column.name for column in panel.table.columns] == ["From", "Clock (UTC)", "Phase", *names]
        assert 10 < len(panel.table.rows) < 40
        assert all(len(row.cells) == len(panel.table.columns) for row in panel.table.rows)
    latency = panels_of()[2].table.rows
    row = next(row for row in latency if row.cells[2].text == "fault")
    assert row.cells[0].text == "72.5s" and row.cells[1].text == "16:02:12"


def test_no_number_of_one_phase_is_in_a_row_of_another() -> None:
    failed = next(panel for panel in panels_of() if panel.id == "failures").table.rows
    assert {row.cells[3].text for row in failed if row.cells[2].text == "baseline"} == {"0"}


def test_charts_need_no_script() -> None:
    page = re.sub(r"<script.*?</script>", "", rendered("fail"), flags=re.DOTALL)
    for panel in panels_of():
        assert panel.figure in page
    assert "need JavaScript" not in page


def test_the_script_makes_no_markup_and_no_code_of_data() -> None:
    script = (html.TEMPLATES / "report.js").read_text(encoding="utf-8")
    for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert risky not in script
    data = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', rendered("hostile"))
    assert data is not None
    strings = re.findall(r'"([^"]*)"', data[1])
    ids = {panel.id for panel in panels_of("hostile")}
    assert set(strings) <= {"start", "end", "began", "grids", "panels", "id", "grid", "values", *ids}


def test_the_policy_allows_our_style_sheet_and_script_and_nothing_else() -> None:
    page = rendered("hostile")
    policy = html_escape.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0])
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not re.findall(r"<[^>]* style=", page[page.index("<main>") : page.index("</main>")])


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_the_page(scheme: int) -> None:
    """WCAG AA: 3 to 1 for lines, 4.5 to 1 for text."""
    css = (html.TEMPLATES / "report.css").read_text(encoding="utf-8")
    block = css.split(":root {")[scheme + 1].split("}")[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    assert len(colours) > 25
    for name in colours:
        if name.startswith("c-"):
            assert contrast(name, "card") >= (4.5 if name == "c-fault" else 3), name
    for one, other in (
        ("fg", "card"),
        ("muted", "card"),
        ("pass", "pass-bg"),
        ("fail", "fail-bg"),
        ("maybe", "maybe-bg"),
    ):
        assert contrast(one, other) >= 4.5, (one, other)


def test_a_line_is_known_by_more_than_its_colour() -> None:
    """No two series of one chart have the same dash."""
    css = (html.TEMPLATES / "report.css").read_text(encoding="utf-8")
    for panel in (
        *panels_of("hostile"),
        *charts.panels(plan_of("fail"), result("fail"), long_run()[0], history("fail")),
    ):
        dashes = []
        for entry in panel.entries:
            found = re.search(rf"\.{entry.css} \.line[^{{]*{{ stroke-dasharray: ([^;]+);", css)
            dashes.append("solid and wide" if entry.css == "s-planned" else found[1] if found else "solid")
        assert len(set(dashes)) == len(dashes), (panel.id, dashes)


def test_signs_are_drawn_and_no_font_has_to_have_them() -> None:
    for kind in ("pass", "fail", "inconclusive", "interrupted"):
        page = rendered(kind)  # type: ignore[arg-type]
        signs = [c for c in page[page.index("<main>") : page.index("</main>")] if unicodedata.category(c) == "So"]
        assert not signs
        assert 'class="icon"' in page


def test_a_broken_target_comes_first() -> None:
    page = rendered("fail")
    first, second = page[page.index("<h2>Targets by phase") :].split("<tr>")[2:4]
    assert "FAIL" in first and "FAIL" not in second


def test_a_sparkline_and_a_strip_are_whole_by_themselves() -> None:
    spark = ET.fromstring(svg.sparkline([1.0, None, 3.0, 2.0], told="<how>"))
    assert spark.get("aria-label") == "<how>"
    assert svg.sparkline([None], told="") == ""
    axis = svg.TimeAxis(start=0, end=100)
    bars = ET.fromstring(svg.strip(axis, [("<b>", [svg.Span(kind="fault", start=10, end=20)])], told="x"))
    rect = next(bars.iter("rect"))
    assert (rect.get("x"), rect.get("width")) == ("100", "100")
    assert "<b>" in [div.text for div in bars.iter("div")]


def test_the_text_without_scripts_is_well_formed() -> None:
    """Escaping mistakes show as broken structure: everything before the scripts parses as XML."""
    page = rendered("hostile")
    body = page[page.index("<main>") : page.index("</main>") + 7]
    ET.fromstring(body)
