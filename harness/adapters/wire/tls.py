"""TLS on a socket that is connected already: one way for probes and for client libraries."""

from __future__ import annotations

import socket
from functools import cache
from typing import TYPE_CHECKING

from harness.model.errors import UsageError
from harness.model.records.faults import Tls

if TYPE_CHECKING:  # a tenth of what `harness --help` may take
    import ssl


def secured(connection: socket.socket, tls: Tls, *, verified: bool = True) -> ssl.SSLSocket:
    """The handshake, within the socket's own time-out. verified: False where nothing secret is sent and nothing that
    comes is believed. Raises OSError, ssl.SSLError among them; UsageError for files that cannot be used."""
    return _context(tls, verified).wrap_socket(connection, server_hostname=tls.name)


@cache
def _context(tls: Tls, verified: bool) -> ssl.SSLContext:
    import ssl

    if not verified:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        return made
    try:
        # The name is checked as it is declared, not as the server is reached: that is by an address, or the proxy's.
        made = ssl.create_default_context(cafile=tls.ca)
        made.check_hostname = tls.name is not None
        if tls.cert is not None:
            # Never asked for at a terminal: a key with a passphrase is refused.
            made.load_cert_chain(tls.cert, tls.key, password=lambda: "")
    except (OSError, ValueError) as error:
        files = ", ".join(path for path in (tls.ca, tls.cert, tls.key) if path is not None)
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"TLS cannot be set up with {files}: {why}", hint="PEM files that you may read, a key without a passphrase"
        ) from error
    return made
