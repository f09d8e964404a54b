"""The console for whoever does not see it or has no mouse: no finding of axe, what is told to whoever listens, and the
focus that stays where somebody works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness.gameday.commands import Command
from harness.report.gameday.files import write
from tests.analysis import gamedays
from tests.console.keys import tab_to
from tests.console.seats import Day, day, live
from tests.report import sample
from tests.report.browser import find
from tests.support.servers.real import wait_until

ROLES = ("operator", "observer", "responder")
Opens = Callable[[str], Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_day(tmp_path: Path) -> Iterator[Day]:
    with day(tmp_path) as found:
        yield found


def link(found: Day, role: str) -> str:
    if role == "operator":
        return f"{found.console.address}/enter/{found.link()}"
    return f"{found.console.guests_address}/enter/{found.console.doors.invite(role.title(), role)}"  # type: ignore[arg-type]


def opened(browser: Browser, url: str, *, scheme: str = "light", scanned: bool = False) -> Page:
    """scanned: axe's script may run in it, which the console's own policy forbids."""
    context = browser.new_context(
        bypass_csp=scanned,
        ignore_https_errors=True,
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": 1280, "height": 900},
    )
    page = context.new_page()
    page.goto(url)
    return page


def seat(browser: Browser, found: Day, role: str = "operator", **more: object) -> Page:
    page = opened(browser, link(found, role), **more)  # type: ignore[arg-type]
    page.get_by_role("button", name="Come in").press("Enter")
    page.wait_for_selector("#clock p")
    return page


def findings(page: Page, scheme: str = "light") -> list[str]:
    """Of all that can be unfolded, too. In the dark nothing differs but the colours."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = Axe().run(page, options={} if scheme == "light" else {"runOnly": ["color-contrast"]}).response["violations"]
    return [f"{one['impact']} {one['id']}: {[node['target'] for node in one['nodes']]}" for one in found]


def begin(found: Day, number: int, fault: str) -> None:
    """A drill as far as its proven fault, with all that a page can show of one."""
    if number == 2:
        found.desk.do("Ada", "operator", Command(kind="skip"))
    found.desk.do("Ada", "operator", Command(kind="begin"))
    begun = found.desk.begins()
    assert begun is not None
    found.desk.starts(begun, f"drill-{number:02d}", found.orders)
    found.desk.shows(
        live("fault", fault), {"A": "firing", "B": "pending", "C": "inactive"}, {"db": {"x": 3.0, "y": 4.0}}
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page_of_a_day(open_day: Day, browser: Browser, scheme: str) -> None:
    door = opened(browser, link(open_day, "observer"), scheme=scheme, scanned=True)
    outside = opened(browser, open_day.console.address, scheme=scheme, scanned=True)
    pages = {role: seat(browser, open_day, role, scheme=scheme, scanned=True) for role in ROLES}
    pages |= {"invitation": door, "outside": outside}
    between = {name: findings(page, scheme) for name, page in pages.items()}
    for number in range(40):
        open_day.desk.do("Bo", "responder", Command(kind="note", text=f"note {number}"))
    open_day.desk.do("Bo", "responder", Command(kind="action", text="mend it", owner="Bo", severity="high"))
    begin(open_day, 2, "db-latency")
    open_day.desk._question = "the limit is 7, and was 5"
    expect(pages["operator"].locator("#do-keep")).to_be_visible()
    for role in ("observer", "responder"):
        expect(pages[role].locator("#clock")).to_contain_text("drill 2 is on: blind")
    during = {name: findings(page, scheme) for name, page in pages.items()}
    assert not any(between.values()) and not any(during.values()), (between, during)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_of_a_record(tmp_path: Path, browser: Browser, scheme: str) -> None:
    said = (gamedays.act(30.0, "see", "Bo", text="errors"), gamedays.act(31.0, "note", "Bo", text="a note"))
    acts = [*gamedays.carried_out(1, 25.0, *said), *gamedays.carried_out(2, 300.0)]
    acts += [gamedays.act(600.0, "action", text="mend it", owner="Bo", severity="high", drill=1)]
    acts += [gamedays.act(601.0, "closed", "harness")]
    results = {1: sample.result("pass"), 2: sample.result("fail")}
    folder = gamedays.folder(tmp_path / "day", acts, results, gamedays.day_plan(prerequisites=("say stop",)))
    write(folder)
    page = opened(browser, (folder / "record.html").as_uri(), scheme=scheme, scanned=True)
    assert findings(page, scheme) == []


def test_whoever_listens_is_told_what_changes_once_and_of_an_abort_at_once(open_day: Day, browser: Browser) -> None:
    operator, responder = (seat(browser, open_day, role) for role in ("operator", "responder"))
    for page in (operator, responder):
        assert page.locator("#news").get_attribute("role") == page.locator("#said").get_attribute("role") == "status"
        assert page.locator("[role=alert], [aria-live=assertive]").evaluate_all("all => all.map(o => o.id)") == [
            "alarm"
        ]
        page.evaluate(
            """() => { window.told = []; for (const name of ["news", "alarm"]) new MutationObserver(() =>
            window.told.push(name)).observe(document.getElementById(name), {childList: true, characterData: true}); }"""
        )
    begin(open_day, 2, "db-latency")
    expect(operator.locator("#news")).to_contain_text(
        "Drill 2 is on: slow store, fault. db-latency proven. Alert A fires."
    )
    expect(responder.locator("#news")).to_have_text("Drill 2 is on: blind. Alert A fires.", use_inner_text=False)
    expect(responder.locator("#news")).not_to_contain_text("db")
    # Figures change each second, and nobody is told.
    clock = operator.inner_text("#clock")
    expect(operator.locator("#clock")).not_to_have_text(clock)
    assert operator.evaluate("told") == ["news"], "once"
    assert operator.locator("#alarm").inner_text() == ""
    responder.keyboard.press("a")
    for page in (operator, responder):
        expect(page.locator("#alarm")).to_contain_text("Responder aborts")
        assert page.evaluate("told.filter((one) => one === 'alarm').length") == 1


def test_the_focus_stays_where_somebody_works_while_the_page_changes(open_day: Day, browser: Browser) -> None:
    page = seat(browser, open_day)
    open_day.desk.shows(live(), {}, {"db": {"x": 1.0}})
    counted = page.locator("#counted")
    counted.focus()
    page.keyboard.press("Enter")
    for value in (2.0, 3.0):
        open_day.desk.shows(live(), {}, {"db": {"x": value}})
        expect(page.locator("#signals td.number")).to_have_text(f"{value:g}")
    expect(counted).to_be_focused()
    # A button that goes away, or may not be pressed any more, leaves whoever pressed it beside where it was.
    tick = page.get_by_role("button", name="somebody can say stop")
    tick.press("Enter")
    expect(page.locator("#prerequisites")).to_contain_text("☑")
    expect(page.locator("#prerequisites")).to_be_focused()
    page.locator("#do-begin").press("Enter")
    begun = None
    while begun is None:
        begun = open_day.desk.begins()
        page.wait_for_timeout(20)
    open_day.desk.starts(begun, "drill-01", open_day.orders)
    expect(page.locator("#do-begin")).to_be_disabled()
    expect(page.locator("#controls")).to_be_focused()
    page.keyboard.press("m")
    expect(page.locator("#said")).to_have_text("Mark this moment: done")


def test_a_guest_is_invited_and_a_fault_injected_without_a_mouse(open_day: Day, browser: Browser) -> None:
    page = seat(browser, open_day)
    tab_to(page, "#h-inject ~ details > summary")
    page.keyboard.press("Enter")
    tab_to(page, "#h-inject ~ details details > summary")
    page.keyboard.press("Space")
    tab_to(page, "input[name=param-latency]")
    page.keyboard.type("1s")
    tab_to(page, "button.break")
    page.keyboard.press("Space")
    expect(page.locator("#said")).to_have_text("Inject redis-latency: done")
    assert open_day.desk.next is not None and open_day.desk.next.drill.faults == ("redis-latency:latency=1s",)
    tab_to(page, "#h-guests ~ form input[name=name]")
    page.keyboard.type("Eve")
    page.keyboard.press("Tab")
    page.keyboard.type("resp")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Their link")).to_be_focused()
    made = page.get_by_label("Their link").input_value()
    assert page.evaluate("getSelection().toString()") == made and made.startswith(open_day.console.guests_address)
    assert "Eve (responder)" in seat_by(browser, made).inner_text("header")


def seat_by(browser: Browser, url: str) -> Page:
    page = opened(browser, url)
    page.get_by_role("button", name="Come in").press("Enter")
    page.wait_for_selector("#clock p")
    return page


def test_an_abort_works_in_each_of_eight_tabs_of_one_browser(open_day: Day, browser: Browser) -> None:
    """A browser has six connections to a host, and each tab wants to know what changes."""
    first = seat(browser, open_day)
    tabs = [first, *(first.context.new_page() for _ in range(7))]
    for tab in tabs[1:]:
        tab.goto(open_day.console.address)
    begin(open_day, 1, "redis-down")
    for number, tab in enumerate(tabs, start=1):
        tab.bring_to_front()
        expect(tab.locator("body")).to_contain_text("redis-down")
        tab.keyboard.press("a")
        expect(tab.locator("#said")).to_contain_text("bort")
        # What is said may still be of the tab before: each shows what its person did last.
        wait_until(f"abort {number} is counted", lambda number=number: aborts(open_day) >= number)
        assert aborts(open_day) == number


def aborts(found: Day) -> int:
    return [act.kind for act in found.desk.acts].count("abort")
