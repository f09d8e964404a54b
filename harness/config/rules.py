"""What a value in harness.toml must look like. Every error names the key path; none repeats a secret."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from harness.model.errors import UsageError
from harness.model.records.faults import Address
from harness.model.records.plan import TRACE_URL

_NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_KEYS = re.compile(r"(^|_)(password|passwd|pass|secret|token|api_?key)$", re.IGNORECASE)
_WORD = (
    r"(?:[\w.-]*?(?:password|passwd|passphrase)"  # also inside a word: --requirepassword, dbPassword
    r"|(?:[\w.-]*?[_.-])?(?:pass|pwd|secret|token|auth|api[_-]?key|access[_-]?key|secret[_-]?key)"
    r"|(?:[\w.-]*[_.-])?(?:requirepass|masterauth|primaryauth))"
)
"""The end of an option's or a variable's name that says: a secret follows."""
_VALUE = r"[\"']?(?![\"']|\$|%)\S"
"""Something, and not the name of a variable that is filled in when the command runs."""
_SECRET_TEXT = re.compile(
    r"://[^@\s]*:[^@\s]*@"  # scheme://user:password@, whatever is in the password
    rf"|(?:^|[\s?&;'\"])-{{0,2}}{_WORD}\s*=\s*{_VALUE}",
    re.IGNORECASE,
)
_SECRET_OPTION = re.compile(rf"-{{1,2}}{_WORD}", re.IGNORECASE)
_SECRET_WORDS = re.compile(rf"(?:^|[\s'\"]){_SECRET_OPTION.pattern}\s+{_VALUE}", re.IGNORECASE)
"""An option and its value in a command line that is one text, as after `sh -c`."""
_ADVICE = 'name the variable that holds it, for example password_env = "REDIS_PASSWORD"'


def refuse_secrets(value: Any, where: str) -> None:
    """Raise UsageError for what looks like a secret itself, anywhere in a value. It would end up in reports."""
    if isinstance(value, dict):
        for key, inner in value.items():
            path = f"{where}{key}" if where.endswith(": ") else f"{where}.{key}"
            if _SECRET_KEYS.search(key):
                raise UsageError(f"{path}: a secret does not belong in this file", hint=_ADVICE)
            refuse_secrets(inner, path)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            refuse_secrets(inner, f"{where}[{index}]")
        if where.endswith((".start", ".reset", ".ctl")):
            _refuse_secret_arguments(value, where)
    elif isinstance(value, str) and _SECRET_TEXT.search(value):
        raise UsageError(f"{where}: a password does not belong in this file", hint=_ADVICE)


def _refuse_secret_arguments(argv: list[Any], where: str) -> None:
    """A command's arguments end up in the process table, and this file in a repository."""
    words = [word if isinstance(word, str) else "" for word in argv]
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        given = _SECRET_OPTION.fullmatch(word) and re.match(_VALUE, following) and not following.startswith("-")
        if given or _SECRET_WORDS.search(word):
            raise UsageError(
                f"{where}[{index + bool(given)}]: a password does not belong in this file",
                hint="have the program read it from a file or a variable; what is run inherits the environment",
            )


def check_name(name: str, where: str, what: str = "a dependency") -> None:
    """A name that faults can begin with: `redis` in `redis-down`."""
    if not _NAME.fullmatch(name) or len(name) > 60 or name == "none":
        raise UsageError(
            f"{where}: {name!r} cannot be the name of {what}",
            hint="small letters, digits, and single - or _ between them, for example payments or orders-db",
        )


def check_variable(name: str | None, where: str) -> None:
    # Not repeated in the message: who misunderstands the key writes the password itself here.
    if name is not None and not _VARIABLE.fullmatch(name):
        raise UsageError(f"{where}: the *name* of an environment variable is wanted", hint="for example REDIS_PASSWORD")


def base_url(text: str, where: str, *, example: str, schemes: tuple[str, ...] = ("http", "https")) -> str:
    """The URL without a slash at its end. Raises UsageError in one line for what is no URL of a server.

    where: what an error begins with, ending in ": ".
    """
    url = text.strip()
    hint = f"for example: {example}"
    if "@" in re.split("[?#]", url)[0]:
        # Before it is taken apart: a slash in a password makes a host and a path of it, which errors would repeat.
        raise UsageError(f"{where}a URL with a password in it would end up in reports", hint="use a header")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{where}{error}", hint=hint) from error
    if parts.scheme not in schemes or not parts.hostname or re.search(r"\s", url):
        raise UsageError(f"{where}an {' or '.join(schemes)} URL is wanted, not {text!r}", hint=hint)
    if parts.query or parts.fragment:
        raise UsageError(f"{where}no query and no fragment, please: {text}", hint=hint)
    if port == 0:
        raise UsageError(f"{where}port 0 is no port")
    return url.rstrip("/")


def check_trace_url(text: str, where: str) -> None:
    """A link with a place for the id, behind the host: an id never says which host that is."""
    if not re.search(TRACE_URL, text):
        raise UsageError(
            f"{where}: an http or https URL with {{trace_id}} behind its host is wanted, not {text!r}",
            hint='for example trace_url = "https://tempo.example/trace/{trace_id}"',
        )


def check_path(text: str | None, where: str, *, empty: bool = False) -> None:
    """A path below the target's URL."""
    if text is None or (empty and text == ""):
        return
    if not text.startswith("/") or re.search(r"\s", text):
        raise UsageError(f"{where}: a path that begins with / is wanted, not {text!r}", hint='for example "/health"')


def address(text: str, where: str) -> Address:
    """HOST:PORT, an IPv6 host in brackets. Raises UsageError."""
    matched = re.fullmatch(r"(\[[^\]\s]+\]|[^:/\s@\[\]]+):([0-9]{1,5})", text.strip())
    if matched is None or not 0 < int(matched[2]) < 65536:
        raise UsageError(f"{where}: {text!r} is no address", hint="write HOST:PORT, for example 127.0.0.1:6379")
    return Address(matched[1].strip("[]"), int(matched[2]))


def loopback_address(text: str, where: str) -> Address:
    """HOST:PORT of this machine's loopback. Raises UsageError."""
    found = address(text, where)
    try:
        near = ip_address(found.host).is_loopback
    except ValueError:
        near = False
    if not near:
        raise UsageError(
            f"{where}: {found.host} is no loopback address: nobody else may tell the harness of alerts",
            hint='write webhook = "127.0.0.1:9099"',
        )
    return found
