"""A real Chromium, headless and without a network, for looking at pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,1000",
)


@dataclass(frozen=True)
class Seen:
    """dom: the page as it was after its scripts ran. console: messages. requests: every URL that the page asked for."""

    dom: str
    console: tuple[str, ...]
    requests: tuple[str, ...]


def find() -> str:
    """Path of a Chromium; skips the test without one, unless HARNESS_REQUIRE_CHROMIUM=1 makes that a failure."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        message = "no Chromium found (Debian: apt-get install chromium)"
        if os.environ.get("HARNESS_REQUIRE_CHROMIUM") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


def look(page: Path, *flags: str) -> Seen:
    """Load a local page and wait (in the page's own time) until it is quiet."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "net.json"
        done = subprocess.run(
            [
                find(),
                *FLAGS,
                f"--user-data-dir={folder}/profile",
                f"--log-net-log={log}",
                "--enable-logging=stderr",
                "--virtual-time-budget=1500",
                *flags,
                "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        console = tuple(re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr))
        return Seen(dom=done.stdout, console=console, requests=_requests(log))


def _requests(log: Path) -> tuple[str, ...]:
    text = log.read_text(encoding="utf-8", errors="replace")
    try:
        events = json.loads(text)["events"]
    except json.JSONDecodeError:  # the browser was faster than its log's last bracket
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    # Chromium's own requests (time, updates) have no origin; a page's have one, be it "null" for a local file.
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    return tuple(str(params["url"]) for params in asked if params["initiator"] != "not an origin" and "url" in params)


class Elements(HTMLParser):
    """Every start tag of a document with its attributes, and the text of its title."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.title = ""
        self._in_title = False
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        # An SVG may hold titles too; the document's own is the first.
        self._in_title = tag == "title" and not self.title

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
            self._in_title = False

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)
