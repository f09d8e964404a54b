"""Memcached's text protocol, as far as it is asked what it does and what it holds. Each function is one question on an
exchange that is open; `quit` is how every exchange ends."""

from __future__ import annotations

from harness.adapters.wire.exchange import MAX_ANSWER, ErrorKind, Exchange, ProbeError
from harness.model.records.faults import Address

QUIT = b"quit\r\n"
_LONGEST_KEY = 250
"""Bytes of the longest key."""


def version(exchange: Exchange) -> str:
    exchange.send(b"version\r\n")
    answer = _line(exchange)
    if not answer.startswith("VERSION "):
        raise _odd("version", answer)
    return answer.removeprefix("VERSION ")


def stats(exchange: Exchange, of: str = "") -> dict[str, str]:
    exchange.send(f"stats {of}".rstrip().encode() + b"\r\n")
    return _stats(exchange)


def store(exchange: Exchange, key: str, lasts_s: int) -> None:
    """An empty value that expires by itself."""
    exchange.send(f"set {key} 0 {lasts_s} 0\r\n\r\n".encode())
    if (answer := _line(exchange)) != "STORED":
        raise _odd("set", answer)


def there(exchange: Exchange, key: str) -> bool:
    exchange.send(f"get {key}\r\n".encode())
    answer = _line(exchange)
    if answer == "END":
        return False
    if not answer.startswith("VALUE ") or _line(exchange) != "" or _line(exchange) != "END":
        raise _odd("get", answer)
    return True


def delete(exchange: Exchange, key: str) -> None:
    exchange.send(f"delete {key}\r\n".encode())
    if (answer := _line(exchange)) not in ("DELETED", "NOT_FOUND"):
        raise _odd("delete", answer)


def flush_all(exchange: Exchange) -> None:
    exchange.send(b"flush_all\r\n")
    if (answer := _line(exchange)) != "OK":
        raise _odd("flush_all", answer)


def connections(exchange: Exchange) -> dict[tuple[str, Address], tuple[str, int]]:
    """(descriptor, its other end) -> (state, whole seconds since its last command), of all TCP connections."""
    rows: dict[str, dict[str, str]] = {}
    for name, value in stats(exchange, "conns").items():
        number, _, field = name.partition(":")
        rows.setdefault(number, {})[field] = value
    found = {}
    for number, row in rows.items():
        scheme, _, end = row.get("addr", "").partition(":")
        host, _, port = end.rpartition(":")
        state, idle = row.get("state", ""), row.get("secs_since_last_cmd", "")
        if scheme in ("tcp", "tcp6") and port.isdigit() and idle.isdigit() and state != "conn_listening":
            found[number, Address(host.strip("[]"), int(port))] = (state, int(idle))
    return found


def upwards(exchange: Exchange, size: int) -> None:
    """Send so many bytes at least: questions about keys that nobody has, by a command that no counter counts."""
    line = b"me " + b"harness-probe".ljust(_LONGEST_KEY, b"-") + b"\r\n"
    times = -(-size // len(line))
    exchange.send(line * times)
    for _ in range(times):
        # ERROR: from before 1.6, which does not know the command. Nothing is left behind in either case.
        if (answer := exchange.line()) not in (b"EN", b"ERROR"):
            raise _odd("me", answer.decode("utf-8", "replace"))


def downwards(exchange: Exchange, size: int) -> None:
    """Have so many bytes sent at least: the server's own statistics, again and again."""
    until = exchange.received + size
    times = -(-size // 1000)  # one answer has about 2,000 bytes, in old versions 1,000
    exchange.send(b"stats\r\n" * times)
    for _ in range(times):
        _stats(exchange)
    if exchange.received < until:
        raise ProbeError("protocol", "stats were answered in less than 1,000 bytes", connected=True)


def _stats(exchange: Exchange) -> dict[str, str]:
    found = {}
    until = exchange.received + MAX_ANSWER
    while (answer := _line(exchange)) != "END":
        word, _, rest = answer.partition(" ")
        if word != "STAT" or exchange.received > until:
            raise _odd("stats", answer)
        name, _, value = rest.partition(" ")
        found[name] = value
    return found


def _line(exchange: Exchange) -> str:
    return exchange.line().decode("utf-8", "replace")


def _odd(asked: str, answer: str) -> ProbeError:
    kind: ErrorKind = "protocol"
    if "Too many open connections" in answer:
        kind = "limit"
    elif "unauthenticated" in answer or "authentication" in answer:
        kind = "auth"
    return ProbeError(kind, f"{asked} was answered with {answer[:100]!r}", connected=True)
