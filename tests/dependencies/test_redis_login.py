"""Redis with a user of an ACL, over TLS, and as a cluster: on real servers, behind a real Toxiproxy."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis as client_library

from harness.conductor.path_proof.clients import snapshot
from harness.config.load import parse
from harness.dependencies.counters import Counters
from harness.dependencies.probe import path_probe
from harness.dependencies.redis import REDIS
from harness.dependencies.registry import tables
from harness.fault import registered
from harness.model.errors import AdapterError, Refused, UsageError
from harness.model.records.faults import Address, Dependency, Tls
from harness.model.records.process import ServerProcess
from harness.safety.healing.undo import undo_record
from harness.stack.external.declared import dependencies
from harness.stack.starting.ports import Ports
from harness.testing import DependencyContract, assert_fault_contract, assert_held, change_for, held, through_json
from harness.testing.fault_contract import assert_no_secret, undo_elsewhere
from tests.dependencies.test_memcached import INJECT
from tests.support.servers.caches import behind_proxy, certificates, start_redis
from tests.support.servers.proxied import raw
from tests.support.servers.real import SubprocessLauncher

PASSWORD = "correct horse battery"
FLUSH = registered()["flush"]


@pytest.fixture(scope="module")
def launcher() -> Iterator[SubprocessLauncher]:
    launcher = SubprocessLauncher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def over_tls(launcher: SubprocessLauncher, files: Path) -> tuple[Address, ServerProcess]:
    """It asks for a client's certificate, as Redis does by default, and has a user of its own."""
    return start_redis(launcher, "--user", *f"app on >{PASSWORD.replace(' ', '-')} ~* &* +@all".split(), tls=files)


@pytest.fixture
def dependency(
    toxiproxy_server: str,
    toxiproxy_process: ServerProcess,
    over_tls: tuple[Address, ServerProcess],
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Dependency]:
    monkeypatch.setenv("CACHE_PASSWORD", PASSWORD.replace(" ", "-"))
    tls = Tls(
        ca=str(files / "ca.pem"), name="cache.test", cert=str(files / "client.pem"), key=str(files / "client.key")
    )
    with behind_proxy(toxiproxy_server, toxiproxy_process, over_tls, "redis", tls=tls) as found:
        yield found.but(credentials={"user": "app", "password_env": "CACHE_PASSWORD"})


@contextmanager
def application(dependency: Dependency, address: Address | None) -> Iterator[Any]:
    """Without anything of the harness."""
    assert address is not None and dependency.tls is not None
    with client_library.Redis(
        host=address.host,
        port=address.port,
        username="app",
        password=PASSWORD.replace(" ", "-"),
        client_name="app",
        ssl=True,
        ssl_ca_certs=dependency.tls.ca,
        ssl_certfile=dependency.tls.cert,
        ssl_keyfile=dependency.tls.key,
        ssl_check_hostname=False,
    ) as client:
        client.ping()
        yield client


def outside(dependency: Dependency) -> Any:
    with application(dependency, dependency.direct) as client:
        kept = client.get("mine"), client.keys("harness*")
    return raw(f"{dependency.proxy.url}/proxies/{dependency.proxy.name}"), kept


@pytest.mark.stack
class TestOverTls(DependencyContract):
    kind = REDIS

    @contextmanager
    def application(self, dependency: Dependency) -> Iterator[None]:
        with application(dependency, dependency.path):
            yield


@pytest.mark.stack
def test_two_hundred_probes_over_tls_end_in_order(dependency: Dependency) -> None:
    with application(dependency, dependency.direct) as client:
        before = client.info("clients")["connected_clients"], client.info("stats")["rejected_connections"]
        quits = client.info("commandstats").get("cmdstat_quit", {}).get("calls", 0)
        for _ in range(200):
            assert path_probe(dependency)(5.0).ok
        assert client.info("commandstats")["cmdstat_quit"]["calls"] == quits + 200
        assert (client.info("clients")["connected_clients"], client.info("stats")["rejected_connections"]) == before


@pytest.mark.stack
def test_who_is_connected_and_what_it_counts_are_told_over_tls(dependency: Dependency) -> None:
    with application(dependency, dependency.path) as client:
        assert [(one.label, one.on_proxy) for one in snapshot(dependency).clients] == [("app", True)]
        counters = Counters(dependency)
        first = counters.read()
        client.get("nobody-has-this")
        second = counters.read()
        counters.close()
        assert second["misses"] - first["misses"] == 1 and second["commands"] > first["commands"]


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["down", "latency", "hang", "reset", "limit-data", "bandwidth"])
def test_what_a_proxy_does_is_proven_over_tls(dependency: Dependency, kind: str) -> None:
    assert_fault_contract(registered()[kind], dependency, look=outside)


@pytest.mark.stack
def test_flush_over_tls(dependency: Dependency) -> None:
    with application(dependency, dependency.direct) as client:
        client.set("mine", "x")
    gone = (None, [])
    assert_fault_contract(FLUSH, dependency, look=outside, expected_after=lambda before, after: (before[0], gone))


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["down", "flush"])
def test_a_process_that_was_killed_leaves_what_another_one_undoes_over_tls(dependency: Dependency, kind: str) -> None:
    fault = registered()[kind]
    record = through_json(fault.capture(change_for(fault, dependency), "r"))
    assert_no_secret(record)
    done = subprocess.run([sys.executable, "-c", INJECT], input=msgspec.json.encode(record), timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert_held(fault.prove(record, "injected"))
    assert held(undo_elsewhere(record, {})) or undo_record(record).state == "verified"
    assert outside(dependency)[1] == (None, [])


@pytest.mark.stack
def test_a_certificate_that_is_not_the_declared_one_is_told(dependency: Dependency, files: Path) -> None:
    def looked(**tls: str | None) -> str:
        changed = msgspec.structs.replace(dependency, tls=msgspec.structs.replace(dependency.tls, **tls))
        with pytest.raises((UsageError, Refused)) as error:
            REDIS.check(changed, "dependencies.cache", None, lambda _: None)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "Hostname mismatch" in looked(name="other.test")
    assert "self-signed certificate" in looked(ca=None)
    assert "TLS cannot be set up with" in looked(ca=str(files / "nothing.pem"))
    plain = msgspec.structs.replace(dependency, tls=None)
    with pytest.raises(UsageError, match="does not answer directly"):
        REDIS.check(plain, "dependencies.cache", None, lambda _: None)


@pytest.mark.stack
def test_a_server_that_speaks_no_tls_is_told(valkey_server: Any) -> None:
    plain = Dependency(
        name="cache", kind="redis", path=valkey_server.address, direct=valkey_server.address, tls=Tls(name="x.test")
    )
    found = path_probe(plain)(1.0)
    assert not found.ok and found.connected and "starting TLS" in found.detail


@pytest.mark.stack
def test_a_node_of_a_cluster_is_refused(launcher: SubprocessLauncher) -> None:
    with Ports() as ports:
        # Left out, it is the other one plus 10000, which may be above the last.
        address, _ = start_redis(launcher, "--cluster-enabled", "yes", "--cluster-port", str(ports.take()))
    node = Dependency(name="cache", kind="redis", path=address, direct=address)
    with pytest.raises(UsageError, match="a node of a Redis Cluster answers at") as refused:
        REDIS.check(node, "dependencies.cache", None, lambda _: None)
    assert "past the proxy" in str(refused.value) and refused.value.hint


NEEDED = "+ping +info +client|setname +client|list +multi +exec +discard +flushall +dbsize +set +exists +del"


@pytest.fixture(scope="module")
def server(launcher: SubprocessLauncher) -> Address:
    return start_redis(launcher)[0]


@pytest.mark.stack
def test_what_a_kill_would_lose_is_said_only_where_it_would(server: Address) -> None:
    def notes(startable: bool) -> list[str]:
        itself = Dependency(name="cache", kind="redis", path=server, direct=server, startable=startable)
        found: list[str] = []
        REDIS.check(itself, "dependencies.cache", None, found.append)
        return found

    assert ["cache-kill loses" in note for note in notes(True)] == [True] and not notes(False)
    with client_library.Redis(server.host, server.port) as admin:
        admin.config_set("appendonly", "yes")
        try:
            assert not notes(True)
        finally:
            admin.config_set("appendonly", "no")


@pytest.mark.stack
class TestRights:
    """Each user may do all that the harness asks but for one thing; the line that is told gives exactly that."""

    @pytest.fixture
    def user(self, server: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Dependency, Any]]:
        monkeypatch.setenv("CACHE_PASSWORD", PASSWORD)
        itself = Dependency(name="cache", kind="redis", path=server, direct=server, allow=("flush",))
        with client_library.Redis(server.host, server.port) as admin:
            yield itself.but(credentials={"user": "app", "password_env": "CACHE_PASSWORD"}), admin
            admin.execute_command("ACL", "DELUSER", "app")

    def may(self, admin: Any, *without: str, keys: str = "~harness-flush-*") -> None:
        rights = [right for right in NEEDED.split() if right not in without]
        admin.execute_command(
            "ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}", *([keys] if keys else []), *rights
        )

    def told(self, dependency: Dependency) -> list[str]:
        notes: list[str] = []
        REDIS.check(dependency, "dependencies.cache", None, notes.append)
        return notes

    def test_with_these_rights_nothing_is_off(self, user: tuple[Dependency, Any]) -> None:
        dependency, admin = user
        self.may(admin)
        assert not self.told(dependency)
        assert {"hits", "misses", "commands"} <= Counters(dependency).read().keys()
        record = FLUSH.capture(change_for(FLUSH, dependency), "r")
        assert_held(FLUSH.inject(record).evidence + FLUSH.prove(record, "injected"))
        FLUSH.undo(record)
        assert_held(FLUSH.verify_undone(record))

    @pytest.mark.parametrize(
        ("right", "cost"),
        [
            ("+client|list", "may not ask CLIENT LIST, so the path is proven by established connections only"),
            ("+info", "may not ask INFO"),
            ("+client|setname", "may not name its connections"),
            ("+flushall", "may not flush"),
            ("+del", "may not flush"),
            ("+multi", "may not flush"),
        ],
    )
    def test_what_is_missing_is_told_with_the_line_that_gives_it(
        self, user: tuple[Dependency, Any], right: str, cost: str
    ) -> None:
        dependency, admin = user
        self.may(admin, right)
        notes = self.told(dependency)
        assert any(cost in note for note in notes), notes
        if right in FLUSH_TAKES:
            with pytest.raises((Refused, AdapterError)):
                FLUSH.capture(change_for(FLUSH, dependency), "r")
        for note in notes:
            assert PASSWORD not in note
            found = re.search(r"ACL SETUSER (\S+) (.+)$", note)
            assert found is not None, note
            admin.execute_command("ACL", "SETUSER", found[1], *found[2].split())
        assert not self.told(dependency)

    def test_a_key_that_it_may_not_touch_is_told_as_that(self, user: tuple[Dependency, Any]) -> None:
        dependency, admin = user
        self.may(admin, keys="~app:*")
        assert [note.rsplit("with it: ", 1)[1] for note in self.told(dependency)] == [
            "ACL SETUSER app ~harness-flush-*"
        ]
        admin.set("kept", "1")
        with pytest.raises(Refused, match="may not do what flush takes: ~harness-flush"):
            FLUSH.capture(change_for(FLUSH, dependency), "r")
        assert admin.get("kept") == b"1", "asking for a right empties nothing"
        admin.delete("kept")

    def test_without_ping_there_is_no_probe(self, user: tuple[Dependency, Any]) -> None:
        dependency, admin = user
        self.may(admin, "+ping")
        with pytest.raises(UsageError, match="may not ask PING") as error:
            self.told(dependency)
        assert error.value.hint == "ACL SETUSER app +ping"

    def test_a_wrong_user_or_password_is_told_without_the_password(
        self, user: tuple[Dependency, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dependency, _ = user
        with pytest.raises(UsageError, match="WRONGPASS") as error:
            self.told(dependency)
        assert PASSWORD not in str(error.value)
        assert path_probe(dependency)(5.0).error_kind == "auth"


FLUSH_TAKES = ("+info", "+client|setname", "+flushall", "+del", "+multi")

FILE = """
[target]
url = "http://127.0.0.1:9"
[dependencies.cache]
kind = "redis"
direct = "127.0.0.1:9"
"""


def read(tmp_path: Path, more: str) -> Dependency:
    config = parse((FILE + more).encode(), tmp_path / "harness.toml", tables())
    return dependencies(config, "http://127.0.0.1:9")[0]


def test_the_table_of_a_redis_with_login_and_tls(tmp_path: Path) -> None:
    found = read(tmp_path, 'user = "app"\npassword_env = "P"\ntls = true\ntls_ca = "ca.pem"\ntls_name = "c.test"\n')
    assert found.credentials.user == "app"
    assert found.tls == Tls(ca=str(tmp_path / "ca.pem"), name="c.test")
    assert read(tmp_path, "").tls is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('tls_ca = "ca.pem"\n', "cache.tls_ca is for TLS"),
        ("tls = true\n", "cache.tls: by what is its certificate known?"),
        ('tls = true\ntls_ca = "ca.pem"\ntls_key = "k"\n', "tls_cert and tls_key belong together"),
        ('user = "a b"\n', "cannot be a user of an ACL"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        read(tmp_path, more)


@pytest.mark.parametrize(
    ("more", "allow"), [("", ()), ('allow = ["flush"]\n', ("flush",)), ("allow_flush = true\n", ("flush",))]
)
def test_what_may_be_done_that_nobody_can_undo(tmp_path: Path, more: str, allow: tuple[str, ...]) -> None:
    found = read(tmp_path, more)
    assert found.allow == allow
    if allow:
        change_for(FLUSH, found)
        return
    with pytest.raises(Refused, match="cache-flush cannot be undone, and cache is not the harness's own") as refused:
        change_for(FLUSH, found)
    assert 'allow = ["flush"] in [dependencies.cache]' in str(refused.value.hint)
