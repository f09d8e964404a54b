"""Secrets out of text. Drivers echo passwords, and fragments of them, in their error messages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote, quote_plus

HIDDEN = "***"

_URL = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s:@'\"\[\]]*):(?P<secret>[^\s'\"]*)@")
"""Up to the last @: a password that nobody quoted may hold slashes, question marks and @ itself."""
_PAIR = re.compile(
    r"(?P<name>\b\w*(?:password|passwd|passphrase|secret|token|api_?key)\w*[\"']?\s*[=:]\s*)"
    r"(?P<secret>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,;&'\"}]+)",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"[\s=:@/?#&%,;'\"\\]+")
_SHORTEST = 3


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without passwords in URLs and conninfo strings, and without `secrets`.

    Each secret is also looked for in its URL-quoted form and, when it has characters that a parser splits on, in
    pieces of at least three characters: libpq's `missing "=" after "PIECE"` shows a piece.
    """
    # Longest first, so that a piece does not spoil the match of the whole.
    for needle in sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True):
        text = text.replace(needle, HIDDEN)
    text = _URL.sub(rf"\g<scheme>\g<user>:{HIDDEN}@", text)
    return _PAIR.sub(rf"\g<name>{HIDDEN}", text)


def redactor(names: Iterable[str], environ: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """`redact` with the values that the named environment variables have now."""
    environ = os.environ if environ is None else environ
    secrets = tuple(value for name in names if (value := environ.get(name)))
    return lambda text: redact(text, secrets)


def _forms(secret: str) -> set[str]:
    forms = {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1], *secret.split("\n")}
    pieces = _SPLIT.split(secret)
    if len(pieces) > 1:
        forms |= {piece for piece in pieces if len(piece) >= _SHORTEST}
    forms.discard("")
    return forms
