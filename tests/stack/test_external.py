"""A target by its URL: what may be tested, what answers, and one clear line for everything else."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from harness.model.errors import Refused, UsageError
from harness.stack.external.stack import ExternalStack
from harness.stack.starting.ports import Ports
from tests.support.servers.real import SubprocessLauncher


def up(url: str, *allow: str) -> str:
    return ExternalStack(url, allow_hosts=allow).up(SubprocessLauncher(), lambda _: None).target.url


@pytest.fixture
def not_found_server() -> Iterator[str]:
    """A service that answers everything with 404: that is an answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_any_status_is_an_answer(not_found_server: str) -> None:
    assert up(not_found_server + "/") == not_found_server


def test_it_has_no_dependencies(not_found_server: str) -> None:
    assert ExternalStack(not_found_server).describe() == ()


def test_a_host_that_answers_nothing_is_a_usage_error() -> None:
    with Ports() as ports:
        port = ports.take()
    with pytest.raises(UsageError, match=rf"--host http://127\.0\.0\.1:{port}: ") as error:
        up(f"http://127.0.0.1:{port}")
    assert "\n" not in str(error.value)


def test_a_host_that_accepts_and_stays_silent_is_a_usage_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UsageError, match=r"--host http://127\.0\.0\.1"),
    ):
        up(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize("host", ["192.0.2.1", "10.1.2.3", "169.254.169.254", "[2001:db8::1]", "0.0.0.0"])
def test_another_machine_is_refused_before_a_packet_is_sent(host: str) -> None:
    with pytest.raises(Refused, match=r"neither loopback|does not name") as error:
        up(f"http://{host}:8000")
    assert error.value.hint is not None
    assert "--allow-host" in error.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:99999",
        "http://u:p@127.0.0.1",
        "http://127.0.0.1/?a=1",
        "http://127.0.0.1:0",
        "http://[::1",
        "",
    ],
)
def test_what_is_no_url_of_a_target_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(UsageError) as error:
        ExternalStack(url)
    assert "\n" not in str(error.value)
    assert "u:p" not in str(error.value)


def test_a_name_that_does_not_resolve_says_so() -> None:
    with pytest.raises(UsageError, match="does not resolve"):
        up("http://no-such-host.invalid")
