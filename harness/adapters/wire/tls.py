"""TLS for exchanges on a raw socket: what certificates are held against, from files that the user names."""

from __future__ import annotations

import ssl


def unverified() -> ssl.SSLContext:
    """For a goodbye in order: nothing secret is sent over it, and nothing that comes is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
