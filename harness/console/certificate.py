"""A certificate for one day and one address, where nobody has a better one. Its fingerprint is shown: a browser
warns of it, and whoever comes in compares."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.model.errors import UsageError
from harness.model.files import replace_file

DAYS = 2


def made(folder: Path, host: str) -> tuple[Path, Path]:
    """(certificate, key) in that folder, for one address or name. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "harness game day")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "console.crt", folder / "console.key"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    replace_file(paths[1], private, mode=0o600)
    return paths


def fingerprint(certificate: Path) -> str:
    """SHA-256, as browsers show it. Raises UsageError for what is no certificate."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{certificate}: not a certificate: {error}") from None
    return found.fingerprint(hashes.SHA256()).hex(":").upper()


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
