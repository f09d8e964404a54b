"""Which server answers here: what a Redis or PostgreSQL says about itself, to tell whether two addresses lead to one.

A proxy that leads to another server than the one that is asked for proof would make every proof worthless.
"""

from __future__ import annotations

import re

import msgspec

from harness.adapters.clients.postgres import Admin, conninfo
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.model.clock import monotonic
from harness.model.errors import Rejected, Unreachable
from harness.model.records.faults import Address


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """identity: differs between any two servers; None where the server does not tell. version: "9.0.1" or None.

    mode: of Redis (standalone, cluster, sentinel). pooled: of PostgreSQL: a pooler stands between.
    """

    identity: str | None = None
    version: str | None = None
    user: str | None = None
    mode: str | None = None
    pooled: bool = False


def redis_server(address: Address, *, password: str | None, timeout_s: float) -> Server:
    """INFO server: run_id is drawn when the server starts. Raises Unreachable, Rejected (a login it does not take)."""
    words = [["CLIENT", "SETNAME", "harness-check"], ["INFO", "server"]]
    if password is not None:
        words.insert(0, ["AUTH", password])
    try:
        with Exchange(address, deadline=monotonic() + timeout_s) as exchange:
            exchange.send(b"".join(_command(one) for one in words))
            answers = [exchange.line() for _ in words]
            if not answers[-1].startswith(b"$"):
                return _no_info(answers[0] if answers[0].startswith(b"-WRONGPASS") else answers[-1])
            body = exchange.exactly(int(answers[-1][1:])).decode("utf-8", "replace")
    except ProbeError as error:
        raise Unreachable(error.detail) from error
    except ValueError as error:
        raise Rejected("INFO was not answered in Redis's protocol") from error
    found = dict(line.split(":", 1) for line in body.splitlines() if ":" in line)
    version = found.get("valkey_version") or found.get("redis_version")
    return Server(
        identity=found.get("run_id"), version=version, mode=found.get("server_mode") or found.get("redis_mode")
    )


def _no_info(answer: bytes) -> Server:
    text = answer[:200].decode("utf-8", "replace")
    if text.startswith(("-NOAUTH", "-WRONGPASS")):
        raise Rejected(f"the login is not accepted: {text[1:]}")
    if text.startswith("-"):
        return Server()  # a login that may not ask, or a server that does not know the command
    raise Rejected("INFO was not answered in Redis's protocol")


def _command(words: list[str]) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)


class _Look(Admin):
    """Admin, as a plain client that only reads."""

    def version(self) -> str:
        return str(self._row("SHOW server_version")[0]).split(" ")[0]

    def started(self) -> str:
        return str(self._row("SELECT pg_postmaster_start_time()::text")[0])

    def pooled(self) -> bool:
        """A pooler gives its clients cancel keys of its own, so the process that it names is not the session's."""
        return int(self._row("SELECT pg_backend_pid()")[0]) != self._connection.info.backend_pid


def postgres_server(options: str, *, address: Address | None, password: str | None, timeout_s: float) -> Server:
    """A login that reads who it is. address: where to, None = as the options say. Raises Unreachable, Rejected."""
    text = conninfo(options, address=address)
    with _Look(text, password=password, timeout_s=timeout_s) as look:
        identity = f"{look.system_identifier()} started {look.started()}"
        return Server(identity=identity, version=look.version(), user=look.user(), pooled=look.pooled())


def login_user(options: str) -> str | None:
    """The user that connection options name. Raises UsageError for options that do not parse."""
    return _named(options, "user")


def login_database(options: str) -> str | None:
    """The database that connection options name. Raises UsageError for options that do not parse."""
    return _named(options, "dbname")


def _named(options: str, key: str) -> str | None:
    # `conninfo` writes a URI as key=value too; values with spaces stand in single quotes.
    matched = re.search(rf"(?:^|\s){key}=(?:'((?:[^'\\]|\\.)*)'|(\S+))", conninfo(options))
    if matched is None:
        return None
    return re.sub(r"\\(.)", r"\1", matched[1] if matched[1] is not None else matched[2])
