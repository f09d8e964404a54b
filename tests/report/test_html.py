"""report.html in a real Chromium."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from harness.analysis.record.spans import fault_spans
from harness.model.records.events import Event, FaultInjected, Undone
from harness.report import junit
from harness.report.html import charts
from harness.report.html import document as html

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
        assert 'class="main-svg"' in plot(hostile.dom, panel.id)
    assert len(re.findall(r'class="trace scatter', hostile.dom)) >= 10
    assert 'class="trace bars"' in hostile.dom


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
    assert page.count("script") == 3
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
    return dom[dom.index(f'id="plot-{panel}"') :].split('<div class="panel">')[0]


def pixels(dom: str, panel: str) -> dict[int, list[float]]:
    """index of a shape -> the x coordinates of its path, as Chromium drew it."""
    found = {}
    for index, path in re.findall(r'<path data-index="(\d+)"[^>]*? d="([^"]+)"', plot(dom, panel)):
        found[int(index)] = [float(x) for x in re.findall(r"[MH]([\d.]+)", path)]
    return found


@pytest.mark.slow
def test_shading_is_where_the_recorded_events_were(hostile: browser.Seen) -> None:
    """From pixels back to seconds: two phase lines give the scale, the fault's rectangle has to fit it."""
    panel = charts.panels(plan_of("fail"), result("fail"), chart("fail"), history("fail"))[2]
    shapes = json.loads(panel.figure)["layout"]["shapes"]
    names = [shape["name"] for shape in shapes]
    xs = pixels(hostile.dom, panel.id)
    (low,), (high,) = (set(xs[names.index(f"phase {name}")]) for name in ("baseline", "tail"))
    scale = (184.4 - 12.0) / (high - low)

    def seconds(name: str) -> list[float]:
        return sorted({12.0 + (x - low) * scale for x in xs[names.index(name)]})

    assert seconds("fault redis-down") == pytest.approx([INJECTED_S, UNDONE_S], abs=scale)
    assert seconds("recovery zero") == pytest.approx([ZERO_S], abs=scale)
    assert seconds("recovery interval") == pytest.approx([ZERO_S + 1.2, ZERO_S + 1.4], abs=scale)


def test_every_panel_has_the_same_shading_and_axis() -> None:
    panels = charts.panels(plan_of("fail"), result("fail"), chart("fail"), history("fail"))
    for panel in panels:
        layout = json.loads(panel.figure)["layout"]
        assert layout["xaxis"]["range"] == [0.0, END_S]
        fault = next(shape for shape in layout["shapes"] if shape["name"] == "fault redis-down")
        assert (fault["x0"], fault["x1"]) == (SENT_S, UNDONE_S)


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
    layout = json.loads(charts.panels(flush, result("fail"), chart("fail"), events)[0].figure)["layout"]
    shape = next(shape for shape in layout["shapes"] if shape["name"] == "fault redis-flush")
    assert (shape["x0"], shape["x1"]) == (SENT_S, INJECTED_S)
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
    layout = json.loads(charts.panels(plan_of("fail"), result("fail"), chart("fail"), events)[0].figure)["layout"]
    shapes = [shape for shape in layout["shapes"] if shape["name"].startswith("fault ")]
    assert [(shape["x0"], shape["x1"]) for shape in shapes] == [(80 + 4 * i, 82 + 4 * i) for i in range(5)]
    assert [shape["label"]["text"] for shape in shapes if "label" in shape] == ["redis-down"]


@pytest.mark.slow
def test_the_buttons_zoom_every_chart(tmp_path: Path) -> None:
    """Pressed by a script of the test, so without the page's policy, which would refuse it."""
    page = rendered("fail")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    press = "<script>document.querySelectorAll('button[data-from]')[2].click()</script></body>"
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", press), encoding="utf-8")
    seen = browser.look(path)
    for panel in charts.panels(plan_of("fail"), result("fail"), chart("fail"), history("fail")):
        shown = re.findall(r'class="xtick"><text[^>]*>([\d.]+)s<', plot(seen.dom, panel.id))
        assert shown, panel.id
        assert all(ZERO_S - 3 <= float(tick) <= ZERO_S + 6 for tick in shown), panel.id


def test_missing_data_is_a_gap_and_says_so() -> None:
    for panel in charts.panels(plan_of("fail"), result("fail"), chart("fail"), history("fail"))[:4]:
        figure = json.loads(panel.figure)
        gap = [shape for shape in figure["layout"]["shapes"] if shape["name"].startswith("no-data")]
        assert [(shape["x0"], shape["x1"]) for shape in gap] == [(150.0, 156.0)]
        recorded = [trace for trace in figure["data"] if trace["name"] != "planned" and len(trace["x"]) > 2]
        assert recorded
        for trace in recorded:
            inside = [y for x, y in zip(trace["x"], trace["y"], strict=True) if 150 < x < 156]
            assert inside == [None] * 12
            assert not trace.get("connectgaps")


def test_figures_are_valid_plotly_figures() -> None:
    import plotly.graph_objects as go

    for panel in charts.panels(plan_of("hostile"), result("hostile"), chart("hostile"), history("hostile")):
        figure = json.loads(re.sub(r'"\$[a-z0-9]+"', '"#123456"', panel.figure))
        go.Figure(figure)


def test_a_hostile_signal_is_text_in_its_chart() -> None:
    names = {name: [1.0] * len(chart().sample_t) for name in HOSTILE}
    panels = charts.panels(
        plan_of("fail"), result("fail"), msgspec.structs.replace(chart(), signals=names), history("fail")
    )
    traces = [trace["name"] for panel in panels for trace in json.loads(panel.figure)["data"]]
    assert not [name for name in traces if "<" in name or "%{" in name]


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
        result("interrupted"), phases=(), requests=(), totals=(), targets=(), faults=(), recovery=None, impact=None
    )
    page = html.render(plan_of("fail"), nothing, empty, [])
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    seen = browser.look(path)
    assert seen.console == ()
    assert 'data-drawn="4"' in seen.dom
    assert "No request failed" not in seen.dom
    assert "Nothing was recorded." in seen.dom


def test_the_page_is_one_file_with_plotly_once() -> None:
    page = rendered("fail")
    assert page.count("Plotly=") + page.count("Plotly =") >= 1
    assert len(page) < 6_000_000
    head, _, tail = page.partition('<script type="application/json"')
    body = head + tail[: tail.index("</script>")]
    assert not re.findall(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', body)


def test_the_text_without_scripts_is_well_formed() -> None:
    """Escaping mistakes show as broken structure: everything before the scripts parses as XML."""
    page = rendered("hostile")
    body = page[page.index("<main>") : page.index("</main>") + 7]
    body = body.replace("<noscript>", "<div>").replace("</noscript>", "</div>")
    ET.fromstring(body)
