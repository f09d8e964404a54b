"""SASL as a client: PLAIN, and SCRAM (RFC 5802) without channel binding."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

from harness.adapters.wire.exchange import ProbeError

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MOST_ROUNDS = 1_000_000

Say = Callable[[bytes], bytes]
"""Sends one message and gives its answer."""


def log_in(mechanism: str, user: str, password: str, say: Say) -> None:
    """Raises ProbeError("auth") where the server is not who knows the password; refusals are raised by `say`."""
    if mechanism == "PLAIN":
        say(f"\0{user}\0{password}".encode())
        return
    _scram(mechanism.removeprefix("SCRAM-").replace("-", "").lower(), user, password, say)


def _scram(name: str, user: str, password: str, say: Say) -> None:
    nonce = secrets.token_urlsafe(24)
    bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
    first = say(f"n,,{bare}".encode()).decode("utf-8", "replace")
    told = dict(part.split("=", 1) for part in first.split(",") if "=" in part)
    try:
        salt, rounds = base64.b64decode(told["s"], validate=True), int(told["i"])
    except (KeyError, ValueError) as error:
        raise ProbeError("protocol", "SCRAM was answered with something else", connected=True) from error
    if not told.get("r", "").startswith(nonce) or not 0 < rounds <= _MOST_ROUNDS:
        raise ProbeError("protocol", "SCRAM was answered with something else", connected=True)

    def mac(key: bytes, text: str) -> bytes:
        return hmac.digest(key, text.encode(), name)

    salted = hashlib.pbkdf2_hmac(name, password.encode(), salt, rounds)
    client_key = mac(salted, "Client Key")
    ours = f"c=biws,r={told['r']}"
    whole = f"{bare},{first},{ours}"
    signature = mac(hashlib.new(name, client_key).digest(), whole)
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    last = say(f"{ours},p={base64.b64encode(proof).decode()}".encode())
    expected = b"v=" + base64.b64encode(mac(mac(salted, "Server Key"), whole))
    if not hmac.compare_digest(last.split(b",")[0], expected):
        raise ProbeError("auth", "the server does not know the password that it asks for", connected=True)
