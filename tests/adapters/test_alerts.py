"""What Prometheus, Alertmanager and a webhook tell is read, and whatever else answers there is one line, never more."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from harness.adapters.alerts import alertmanager, listener, prometheus, webhook
from harness.adapters.alerts.sources import check_sources, has_our_clock, pinned
from harness.adapters.alerts.told import MAX_ANSWER, Active, instant
from harness.adapters.wire.http import Client
from harness.model.errors import AdapterError, Refused, Unreachable, UsageError
from harness.model.records.alerts import AlertsPlan


class Page(http.server.ThreadingHTTPServer):
    body = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Page

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[Page]:
    server = Page()
    yield server
    server.shutdown()
    server.server_close()


def rules(*alerts: object, **more: object) -> bytes:
    one = {"name": "Down", "type": "alerting", "duration": 60, "query": "up == 0", "alerts": alerts, **more}
    return json.dumps({"status": "success", "data": {"groups": [{"interval": 15, "rules": [one]}]}}).encode()


HOSTILE = {"alertname": "<script>alert(1)</script>\x1b[2J", "x": "y" * 100_000}


def test_a_prometheus_tells_rules_and_what_is_active(page: Page) -> None:
    at = "2026-11-23T16:00:00.123456789Z"
    page.body = rules(
        {"labels": {"alertname": "Down", "job": "a"}, "state": "pending", "activeAt": at, "value": "1e+00"},
        {"labels": {"alertname": "Down", "job": "b"}, "state": "firing", "activeAt": at},
        {"labels": {"alertname": "Down", "job": "c"}, "state": "inactive"},
        {"labels": {"job": "nameless"}, "state": "firing"},
        {"labels": HOSTILE, "state": "firing"},
        lastEvaluation="2026-11-23T17:01:00+01:00",
    )
    with Client() as client:
        found = prometheus.read(client, page.url)
    (rule,) = found.rules
    assert (rule.alert, rule.for_s, rule.interval_s, rule.least_s) == ("Down", 60.0, 15.0, 75.0)
    first, second, hostile = found.active
    assert (first.state, first.labels, second.state) == ("pending", "job=a", "firing")
    assert first.since == pytest.approx(instant("2026-11-23T16:00:00.123Z"), abs=0.001)
    assert second.since == instant("2026-11-23T16:01:00Z") == found.evaluated["Down"]
    assert hostile.alert == HOSTILE["alertname"] and len(hostile.labels) == 300
    assert first.series != second.series


def test_an_alertmanager_tells_what_fires_and_what_it_suppresses(page: Page) -> None:
    def one(name: str, state: str) -> object:
        status = {"state": state, "inhibitedBy": [], "silencedBy": []}
        return {"labels": {"alertname": name}, "status": status, "startsAt": "2026-11-23T16:00:00Z", "endsAt": "x"}

    page.body = json.dumps([one("A", "active"), one("B", "suppressed"), one("C", "unprocessed")]).encode()
    with Client() as client:
        found = alertmanager.read(client, page.url)
    assert [(a.alert, a.state) for a in found.active] == [("A", "firing"), ("B", "suppressed"), ("C", "firing")]


BAD = {
    "empty": b"",
    "html": b"<html>404</html>",
    "nan": b'{"status": "success", "data": {"groups": [{"interval": NaN, "rules": []}]}}',
    "null": b"null",
    "types": rules({"labels": ["a"], "state": "firing"}),
    "number": rules(duration="60"),
    "huge number": b'{"status": "success", "data": {"groups": [{"interval": 1e999, "rules": []}]}}',
    "deep": b"[" * 200_000,
    "not text": b'{"status": "\xff"}',
    "error": b'{"status": "error", "data": {"groups": []}}',
    "large": b'[{"labels": {"alertname": "' + b"x" * MAX_ANSWER + b'"}}]',
    "many": rules(*({"labels": {"alertname": "a", "n": str(n)}, "state": "firing"} for n in range(1_001))),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_one_line(page: Page, name: str) -> None:
    page.body = BAD[name]
    for read in (prometheus.read, alertmanager.read):
        with Client() as client, pytest.raises(AdapterError) as error:
            read(client, page.url)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_rules_with_impossible_lengths_can_still_be_calculated_with(page: Page) -> None:
    page.body = rules(duration=-5)
    with Client() as client:
        assert prometheus.read(client, page.url).rules[0].for_s == 0.0
        page.body = rules(duration=1e300).replace(b'"interval": 15', b'"interval": 1e-300')
        assert prometheus.read(client, page.url).rules[0].least_s == 0.0


@pytest.mark.parametrize("text", ["", "yesterday", "0001-01-01T00:00:00Z", "2026-11-23", None, "9" * 50])
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert instant(text) is None or text == "2026-11-23"


# -- the webhook -----------------------------------------------------------------------------------------------------


class Told:
    def __init__(self) -> None:
        self.found: list[Active] = []
        self.trouble: list[str] = []
        self.receiver = webhook.Receiver("127.0.0.1", 0, lambda all_: self.found.extend(all_), self.trouble.append)

    def post(self, body: bytes, method: str = "POST", **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.receiver.port, timeout=5)
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(method, "/", body, sent)
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.receiver.close()


def payload(*alerts: tuple[str, str], version: str = "4") -> bytes:
    found = [{"status": state, "labels": {"alertname": name}, "annotations": {"a": "b"}} for name, state in alerts]
    return json.dumps({"version": version, "status": "firing", "receiver": "x", "alerts": found}).encode()


def test_a_notification_is_told(told: Told) -> None:
    assert told.post(payload(("A", "firing"), ("B", "resolved"))) == 200
    assert [(one.alert, one.state) for one in told.found] == [("A", "notified"), ("B", "resolved")]
    assert told.trouble == []


def test_what_a_web_page_could_send_is_refused(told: Told) -> None:
    good = payload(("A", "firing"))
    assert told.post(good, Content_Type="text/plain") == 415
    assert told.post(good, Origin="http://evil.example") == 403
    assert told.post(good, Host="evil.example") == told.post(good, Host="127.evil.example:80") == 403
    assert told.post(b"", "GET") == 501
    assert told.found == []


@pytest.mark.parametrize("body", [b"", b"{}", payload(version="3"), b"[" * 100_000, b'{"version": "4", "alerts": [1]}'])
def test_another_payload_is_one_line(told: Told, body: bytes) -> None:
    assert told.post(body) == 400
    (line,) = told.trouble
    assert "\n" not in line and told.found == []


def test_a_payload_without_measure_is_not_read(told: Told) -> None:
    assert told.post(b"x", Content_Length="1000000000") == 411
    assert told.post(b"x", Content_Length="10000000") == 413
    assert told.found == [] and len(told.trouble) == 1


def test_a_port_that_is_taken_is_told(told: Told) -> None:
    with pytest.raises(Unreachable, match="cannot listen"):
        webhook.Receiver("127.0.0.1", told.receiver.port, lambda _: None, lambda _: None)
    with pytest.raises(UsageError, match=r"alerts\.webhook: the webhook cannot listen"):
        check_sources(AlertsPlan(webhook=f"127.0.0.1:{told.receiver.port}"), ())


# -- the listener that owns the port ----------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[Told]:
    made = Told()
    made.receiver.close()
    made.receiver = listener.listen("127.0.0.1", 0, lambda all_: made.found.extend(all_), made.trouble.append)
    yield made
    made.receiver.close()


def test_a_listener_that_has_the_port_is_asked_what_it_was_told(listening: Told) -> None:
    address = f"127.0.0.1:{listening.receiver.port}"
    check_sources(AlertsPlan(webhook=address), ())
    assert listening.post(payload(("A", "firing"), ("B", "firing"))) == 200
    assert listening.post(payload(("B", "resolved"))) == 200
    (one,) = listener.read(Client(), f"http://{address}").active
    assert (one.alert, one.state, one.since) == ("A", "notified", None) and len(listening.found) == 3
    assert listening.post(b"", "GET", Origin="http://evil.example") == 403
    assert listening.post(b"", "GET", Host="evil.example") == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"listener": "another", "active": []}',
        b'{"listener": "harness alerts listen", "active": 1}',
    ],
)
def test_another_server_on_its_port_is_no_listener(page: Page, body: bytes) -> None:
    page.body = body
    assert not listener.answers(page.url.removeprefix("http://"))
    with pytest.raises(UsageError, match="cannot listen"):
        check_sources(AlertsPlan(webhook=page.url.removeprefix("http://")), ())


def test_what_a_listener_tells_is_cut(page: Page) -> None:
    told = {"alert": "A" * 10_000, "series": "s" * 10_000, "labels": "l" * 10_000, "since": 1e300}
    other = {**told, "series": "t", "state": "firing"}
    active = [{**told, "state": "notified"}, other]
    page.body = json.dumps({"listener": "harness alerts listen", "active": active}).encode()
    (one,) = listener.read(Client(), page.url).active
    assert len(one.alert) == 200 and len(one.labels) == 300 and len(one.series) == 12 and one.since is None


# -- which hosts -----------------------------------------------------------------------------------------------------


def test_sources_are_held_to_the_allowed_hosts_and_pinned() -> None:
    local = pinned(AlertsPlan(prometheus="http://localhost:9090/prom", alertmanager="https://localhost"), ())
    assert local.prometheus in ("http://127.0.0.1:9090/prom", "http://[::1]:9090/prom")
    assert local.alertmanager == "https://localhost"
    assert pinned(AlertsPlan(prometheus="http://10.1.2.3:9090"), ()).prometheus == "http://10.1.2.3:9090"
    with pytest.raises(Refused, match=r"alerts\.alertmanager: 8\.8\.8\.8:80"):
        check_sources(AlertsPlan(alertmanager="http://8.8.8.8"), ())
    check_sources(AlertsPlan(alertmanager="http://8.8.8.8"), ("8.8.8.8",))
    with pytest.raises(Refused):
        check_sources(AlertsPlan(prometheus="http://169.254.169.254"), ())
    check_sources(None, ())


def test_only_a_prometheus_of_this_machine_has_our_clock_for_sure(page: Page) -> None:
    assert not has_our_clock(page.url)  # some process forwards it, perhaps
    assert not has_our_clock("http://10.1.2.3:9090") and not has_our_clock("http://localhost:1")
