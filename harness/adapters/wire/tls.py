"""TLS for exchanges on a raw socket: what certificates are held against, from files that the user names."""

from __future__ import annotations

import ssl

from harness.model.errors import UsageError


def unverified() -> ssl.SSLContext:
    """For a goodbye in order: nothing secret is sent over it, and nothing that comes is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def verified(ca: str | None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """ca: file of the only authority that is believed, None = the system's. Raises UsageError for files of no use."""
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            # Never asked for at a terminal: a key with a passphrase is refused.
            context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "reason", None) or "not understood"
        files = ", ".join(file for file in (ca, cert, key) if file)
        raise UsageError(
            f"a file of TLS cannot be used ({files}): {why}", hint="PEM, and a key without a passphrase"
        ) from error
    return context
