"""TLS on a socket that is connected already: one way for probes and for client libraries."""

from __future__ import annotations

import socket
from functools import cache
from typing import TYPE_CHECKING

from harness.model.errors import UsageError
from harness.model.records.faults import Tls

if TYPE_CHECKING:  # a tenth of what `harness --help` may take
    import ssl


def secured(connection: socket.socket, tls: Tls) -> ssl.SSLSocket:
    """The handshake, within the socket's own time-out. Raises OSError, ssl.SSLError among them; UsageError for files
    that cannot be used."""
    return _context(tls).wrap_socket(connection, server_hostname=tls.name)


@cache
def _context(tls: Tls) -> ssl.SSLContext:
    import ssl

    try:
        # The name is checked as it is declared, not as the server is reached: that is by an address, or the proxy's.
        made = ssl.create_default_context(cafile=tls.ca)
        made.check_hostname = tls.name is not None
        if tls.cert is not None:
            made.load_cert_chain(tls.cert, tls.key)
    except (OSError, ValueError) as error:
        files = ", ".join(path for path in (tls.ca, tls.cert, tls.key) if path is not None)
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise UsageError(f"TLS cannot be set up with {files}: {why}", hint="PEM files that you may read") from error
    return made
