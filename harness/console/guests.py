"""The second listener as it was asked for: where, and with which certificate."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.console.certificate import fingerprint, made
from harness.console.link import Place
from harness.model.errors import UsageError


class Guests(msgspec.Struct, frozen=True, kw_only=True):
    """address: HOST:PORT, "" for none. certificate, key: None for ones that are made for the day."""

    address: str = ""
    certificate: Path | None = None
    key: Path | None = None

    def at(self, place: Place, private: Path) -> Place:
        """With the files of its certificate; those that are made lie in that folder. Raises OSError."""
        if not self.address:
            return place
        certificate, key = self.certificate, self.key
        if certificate is None or key is None:
            certificate, key = made(private, self.address.rpartition(":")[0].strip("[]"))
        return replace(place, guests=self.address, certificate=str(certificate), key=str(key))


def guests_of(address: str | None, certificate: Path | None, key: Path | None) -> Guests:
    """Raises UsageError."""
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --certificate-key belong together")
    if address is None:
        if certificate is not None:
            raise UsageError("--certificate is of the guests' listener", hint="--guests ADDRESS:PORT")
        return Guests()
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port[:6]) <= 65535:
        raise UsageError(f"--guests {address}: not ADDRESS:PORT", hint="for example --guests 10.0.0.5:8443")
    host = _as_browsers_write(address, host)
    if certificate is not None and key is not None:
        fingerprint(certificate)
        _belong_together(certificate, key)
    return Guests(address=f"{host}:{int(port)}", certificate=certificate, key=key)


def _as_browsers_write(address: str, host: str) -> str:
    """What they will send as Host: a name in small letters, an IPv6 address in its shortest form and in brackets.
    Raises UsageError."""
    hint = "for example --guests 10.0.0.5:8443, or --guests [fd00::5]:8443"
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        found = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        if ":" in host or "[" in host or "]" in host:
            raise UsageError(f"--guests {address}: not ADDRESS:PORT", hint=hint) from None
        return host.lower()
    if found.is_unspecified:
        raise UsageError(f"--guests {address}: the address that guests will type is needed", hint=hint)
    if isinstance(found, ipaddress.IPv4Address):
        if bracketed:
            raise UsageError(f"--guests {address}: not ADDRESS:PORT", hint=hint)
        return str(found)
    if not bracketed:
        raise UsageError(f"--guests {address}: an IPv6 address is written in brackets", hint=hint)
    if found.scope_id:
        raise UsageError(
            f"--guests {address}: no browser can open an address with a zone (%{found.scope_id})", hint=hint
        )
    return f"[{found}]"


def _belong_together(certificate: Path, key: Path) -> None:
    """Raises UsageError."""
    try:
        # A key with a password would ask for it in the terminal, later and in another process.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        hint = "the private key of that certificate, PEM, without a password"
        raise UsageError(f"{key}: not the key of {certificate}: {error}", hint=hint) from None
