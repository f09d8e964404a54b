"""The second listener as it was asked for: where, and with which certificate."""

from __future__ import annotations

import ipaddress
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
    bare = host.strip("[]")
    try:
        everywhere = ipaddress.ip_address(bare).is_unspecified
    except ValueError:
        everywhere = False
    if everywhere:
        hint = "for example --guests 10.0.0.5:8443"
        raise UsageError(f"--guests {address}: the address that guests will type is needed", hint=hint)
    if certificate is not None:
        fingerprint(certificate)
    return Guests(address=address, certificate=certificate, key=key)
