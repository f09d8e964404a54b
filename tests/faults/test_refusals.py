"""What a fault refuses: at planning where the declaration shows it, before injecting where only a look can."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import psycopg
import pytest

from harness.fault import registered
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Credentials, Dependency
from harness.testing import assert_held, change_for
from tests.support.servers.proxied import outside, raw


def test_a_dependency_without_a_proxy_is_told_so() -> None:
    with pytest.raises(Refused, match="redis-down needs a Toxiproxy proxy in front of redis") as refused:
        change_for(registered()["down"], Dependency(name="redis", kind="redis"))
    assert refused.value.hint


def test_a_limit_of_connections_needs_a_database() -> None:
    with pytest.raises(
        Refused, match="redis-connection-limit needs a PostgreSQL or MySQL dependency; redis is of kind redis"
    ):
        change_for(registered()["connection-limit"], Dependency(name="redis", kind="redis", proxied=True))


@pytest.mark.parametrize(
    "dependency",
    [
        Dependency(name="db", kind="postgres", proxied=True),
        Dependency(name="db", kind="postgres", credentials=Credentials(role="app"), direct=Address("127.0.0.1", 1)),
    ],
    ids=["no role", "no admin"],
)
def test_a_limit_of_connections_needs_a_login(dependency: Dependency) -> None:
    with pytest.raises(Refused, match="db-connection-limit needs a PostgreSQL login"):
        change_for(registered()["connection-limit"], dependency)


@pytest.mark.parametrize("kind", ["latency", "hang"])
def test_a_fault_that_nothing_could_show_is_refused(kind: str) -> None:
    """A proxy accepts connections whatever its toxics do, and nothing can be sent to an unknown protocol."""
    silent = Dependency(name="payments", kind="tcp", proxied=True)
    with pytest.raises(Refused, match="nothing is known that makes payments answer") as refused:
        change_for(registered()[kind], silent)
    assert "probe_send" in str(refused.value.hint)
    change_for(registered()["down"], silent)
    change_for(registered()[kind], msgspec.structs.replace(silent, probe_send="version\r\n"))


@pytest.mark.parametrize("kind", ["bandwidth", "slicer", "limit-data"])
@pytest.mark.parametrize("dependency", ["tcp", "http"])
def test_a_fault_that_shows_in_much_data_needs_a_dependency_that_can_be_asked_for_it(
    kind: str, dependency: str
) -> None:
    with pytest.raises(Refused, match=f"nothing would show this fault on a dependency of kind {dependency}") as refused:
        change_for(registered()[kind], Dependency(name="payments", kind=dependency, proxied=True))
    assert "kafka, mariadb, memcached, mysql, postgres, redis" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("kind", "params", "words"),
    [
        ("bandwidth", {"rate": "-1KB/s"}, "must not be negative"),
        ("bandwidth", {"rate": "0"}, "rate=0 is out of range"),
        ("bandwidth", {"rate": "1500B/s"}, "whole KB/s of 1,000 bytes"),
        ("bandwidth", {"rate": "32"}, "a rate is bytes per second"),
        ("bandwidth", {"rate": "1GB/s"}, "out of range"),
        ("slicer", {"variation": "0B"}, "variation=0B is out of range"),
        ("slicer", {"size": "64B", "variation": "64B"}, "variation must be below size"),
        ("slicer", {"delay": "0"}, "delay=0 is out of range"),
        ("limit-data", {"bytes": "2MB"}, "bytes=2MB is out of range"),
        ("limit-data", {"bites": "1KB"}, "unknown parameter 'bites'"),
        ("latency", {"direction": "left"}, "unknown direction 'left'"),
    ],
)
def test_a_parameter_that_would_harm_the_proxy_or_show_nothing_is_refused(
    kind: str, params: dict[str, str], words: str
) -> None:
    """A negative rate and a slicer without variation crash Toxiproxy; an unknown attribute is ignored silently."""
    with pytest.raises(UsageError, match=re.escape(words)):
        change_for(registered()[kind], Dependency(name="redis", kind="redis", proxied=True), **params)


def test_a_redis_of_the_users_own_is_emptied_only_where_that_is_allowed() -> None:
    theirs = Dependency(name="cache", kind="redis", proxied=True, external=True)
    with pytest.raises(Refused, match="cache-flush cannot be undone, and cache is not the harness's own") as refused:
        change_for(registered()["flush"], theirs)
    assert 'write allow = ["flush"] in [dependencies.cache]' in str(refused.value.hint)
    with pytest.raises(Refused, match="cannot be undone"):
        change_for(registered()["flush"], msgspec.structs.replace(theirs, allow=("kill",)))
    change_for(registered()["down"], theirs)
    change = change_for(registered()["flush"], msgspec.structs.replace(theirs, allow=("flush",)))
    assert "cannot be undone" in change.undoes
    with pytest.raises(Refused, match="db-flush needs a memcached or redis dependency"):
        change_for(registered()["flush"], Dependency(name="db", kind="postgres", proxied=True))


def test_slots_are_taken_only_by_a_login_of_its_own() -> None:
    with pytest.raises(Refused, match="no admin login is declared for db"):
        change_for(
            registered()["connection-hog"],
            Dependency(name="db", kind="postgres", credentials=Credentials(role="app"), direct=Address("127.0.0.1", 1)),
        )
    with pytest.raises(Refused, match="needs a PostgreSQL dependency; redis is of kind redis"):
        change_for(registered()["connection-hog"], Dependency(name="redis", kind="redis", proxied=True))


def test_jitter_that_swallows_the_latency_is_refused() -> None:
    dependency = Dependency(name="redis", kind="redis", proxied=True)
    with pytest.raises(Refused, match="jitter must be below latency"):
        change_for(registered()["latency"], dependency, latency="50ms", jitter="50ms")


@pytest.mark.stack
class TestOnRunningServers:
    def test_a_proxy_that_is_already_disabled_is_no_original(self, redis: Dependency) -> None:
        raw(f"{redis.proxy.url}/proxies/{redis.proxy.name}", "POST", {"enabled": False})
        for kind in ("down", "latency", "hang"):
            with pytest.raises(Refused, match="already disabled"):
                registered()[kind].capture(change_for(registered()[kind], redis), "r")

    def test_a_toxic_of_another_run_is_refused_and_named(self, redis: Dependency) -> None:
        toxic = {"name": "harness-old-1", "type": "latency", "attributes": {"latency": 1}}
        raw(f"{redis.proxy.url}/proxies/{redis.proxy.name}/toxics", "POST", toxic)
        with pytest.raises(Refused, match="harness-old-1") as refused:
            registered()["latency"].capture(change_for(registered()["latency"], redis), "r")
        assert "harness heal" in str(refused.value.hint)

    def test_somebody_elses_toxic_is_left_alone(self, redis: Dependency) -> None:
        toxic = {"name": "theirs", "type": "latency", "stream": "upstream", "attributes": {"latency": 1, "jitter": 0}}
        raw(f"{redis.proxy.url}/proxies/{redis.proxy.name}/toxics", "POST", toxic)
        before = outside(redis)
        fault = registered()["hang"]
        record = fault.capture(change_for(fault, redis), "r")
        fault.inject(record)
        fault.undo(record)
        assert all(item.held for item in fault.verify_undone(record))
        assert outside(redis) == before

    def test_a_proxy_that_does_not_exist_is_told_with_those_that_do(self, redis: Dependency) -> None:
        wrong = redis.but(proxy={"name": "nix"})
        with pytest.raises(Refused, match="has no proxy 'nix'") as refused:
            registered()["down"].capture(change_for(registered()["down"], wrong), "r")
        assert str(redis.proxy.name) in str(refused.value.hint)

    def test_a_dependency_that_does_not_answer_before_the_fault_is_refused(self, redis: Dependency) -> None:
        raw(f"{redis.proxy.url}/proxies/{redis.proxy.name}", "POST", {"upstream": "127.0.0.1:1"})
        with pytest.raises(Refused, match=r"does not answer at .* before any fault"):
            registered()["down"].capture(change_for(registered()["down"], redis), "r")

    @pytest.mark.parametrize(
        ("attribute", "words"),
        [
            ("LOGIN SUPERUSER", "superuser: connection limits do not apply"),
            ("NOLOGIN", "no role 'limited' that can log in"),
            ("LOGIN CONNECTION LIMIT 2", "already limited to 2 connections"),
        ],
    )
    def test_a_role_that_the_fault_would_not_touch_is_refused(self, db: Dependency, attribute: str, words: str) -> None:
        fault = registered()["connection-limit"]
        with role_called("limited", db, attribute) as dependency, pytest.raises(Refused, match=words):
            fault.capture(change_for(fault, dependency), "r")

    def test_the_undo_needs_another_login_than_the_application(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        dependency = db.but(credentials={"admin": over_tcp(db, db.credentials.login)})
        with pytest.raises(Refused, match="application's own role"):
            fault.capture(change_for(fault, dependency), "r")

    def test_an_admin_that_may_not_alter_the_role_is_refused(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        dependency = db.but(credentials={"admin": over_tcp(db, db.credentials.probe_login)})
        with pytest.raises(Refused, match="may not alter role"):
            fault.capture(change_for(fault, dependency), "r")

    def test_an_admin_that_could_not_see_the_sessions_is_refused(self, db: Dependency) -> None:
        """It would count none, end none, and call that proven."""
        fault = registered()["connection-limit"]
        dependency = db.but(credentials={"admin": over_tcp(db, db.credentials.probe_login)})
        with granted(db, "WITH ADMIN TRUE, INHERIT FALSE"), pytest.raises(Refused, match="may not alter role"):
            fault.capture(change_for(fault, dependency), "r")

    def test_an_admin_needs_not_be_a_superuser(self, db: Dependency) -> None:
        """Hosted databases give nobody a superuser."""
        fault = registered()["connection-limit"]
        dependency = db.but(credentials={"admin": over_tcp(db, db.credentials.probe_login)})
        with granted(db, "WITH ADMIN TRUE, INHERIT TRUE"):
            before = outside(db)
            record = fault.capture(change_for(fault, dependency), "r")
            fault.inject(record)
            assert_held(fault.prove(record, "injected"))
            fault.undo(record)
            assert_held(fault.verify_undone(record))
            assert outside(db) == before


def over_tcp(db: Dependency, login: str | None) -> str:
    assert db.direct is not None
    return f"{login} host={db.direct.host} port={db.direct.port}"


@contextmanager
def granted(db: Dependency, options: str) -> Iterator[None]:
    """The probe's role may alter the application's for a while."""
    with psycopg.connect(str(db.credentials.admin), autocommit=True) as admin:
        admin.execute("ALTER ROLE harness_probe CREATEROLE")
        admin.execute(f"GRANT {db.credentials.role} TO harness_probe {options}".encode())
        try:
            yield
        finally:
            admin.execute(f"REVOKE {db.credentials.role} FROM harness_probe".encode())
            admin.execute("ALTER ROLE harness_probe NOCREATEROLE")


@contextmanager
def role_called(name: str, db: Dependency, attributes: str) -> Iterator[Dependency]:
    assert db.credentials.admin is not None
    with psycopg.connect(db.credentials.admin, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} {attributes}".encode())
        try:
            yield db.but(credentials={"role": name})
        finally:
            admin.execute(f"DROP ROLE {name}".encode())
