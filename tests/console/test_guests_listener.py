"""The guests' listener as it was asked for: IPv6, a certificate of somebody's own authority, and what is refused."""

from __future__ import annotations

import http.client
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.console.app import _places
from harness.console.certificate import fingerprint
from harness.console.guests import guests_of
from harness.model.errors import UsageError
from tests.console.seats import day


def signed(folder: Path, password: str = "") -> tuple[Path, Path, Path]:
    """(authority, certificate, key): a certificate for loopback of an authority that nobody but this test knows."""
    now = datetime.now(UTC)

    def made(
        name: str, key: ec.EllipticCurvePrivateKey, by: str, signer: ec.EllipticCurvePrivateKey, ca: bool
    ) -> bytes:
        loopback = [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")]
        identifier = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(loopback), critical=False)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority, certificate, key = (folder / name for name in ("ca.pem", "guests.pem", "guests.key"))
    authority.write_bytes(made("our authority", root, "our authority", root, True))
    certificate.write_bytes(made("console", own, "our authority", root, False))
    hidden = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    key.write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden),
    )
    return authority, certificate, key


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_guests_who_trust_the_authority_come_in_and_are_warned_of_nothing(tmp_path: Path, host: str) -> None:
    authority, certificate, key = signed(tmp_path)
    asked = guests_of(f"{host}:0", certificate, key)
    with day(tmp_path, guests=asked) as found:
        said = next(line for line in found.said if line.startswith("guests: "))
        assert f"guests: https://{host}:{found.console.guests_port}, " in said and fingerprint(certificate) in said
        token = found.console.doors.invite("Grace", "observer")
        place = f"{host}:{found.console.guests_port}"
        trusting = ssl.create_default_context(cafile=str(authority))
        bare = host.strip("[]")
        connection = http.client.HTTPSConnection(bare, found.console.guests_port, timeout=10, context=trusting)
        connection.request("POST", f"/enter/{token}", "", {"Host": place, "Origin": f"https://{place}"})
        answer = connection.getresponse()
        cookie = answer.headers["set-cookie"].partition(";")[0]
        answer.read()
        assert answer.status == 303
        connection.request("GET", "/", headers={"Host": place, "Cookie": cookie})
        assert b"Grace (observer)" in connection.getresponse().read()
        connection.close()
        stranger = http.client.HTTPSConnection(
            bare, found.console.guests_port, timeout=10, context=ssl.create_default_context()
        )
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.request("GET", "/")


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("10.0.0.5:8443", "10.0.0.5:8443"),
        ("[FD00:0:0::5]:8443", "[fd00::5]:8443"),
        ("Drill.Example:08443", "drill.example:8443"),
    ],
)
def test_an_address_is_kept_as_browsers_write_it(address: str, kept: str) -> None:
    assert guests_of(address, None, None).address == kept


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("::1:8443", "an IPv6 address is written in brackets"),
        ("[::]:8443", "the address that guests will type is needed"),
        ("0.0.0.0:8443", "the address that guests will type is needed"),
        ("[fe80::1%eth0]:8443", "no browser can open an address with a zone (%eth0)"),
        ("[10.0.0.5]:8443", "not ADDRESS:PORT"),
        ("[::1:8443", "not ADDRESS:PORT"),
        ("[::1]", "not ADDRESS:PORT"),
        ("10.0.0.5:65536", "not ADDRESS:PORT"),
    ],
)
def test_what_no_browser_could_open_is_one_line(address: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        guests_of(address, None, None)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_key_that_is_not_the_certificate_s_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for name in ("one", "other", "locked"):
        (tmp_path / name).mkdir()
    (_, certificate, key), (_, _, other) = signed(tmp_path / "one"), signed(tmp_path / "other")
    _, locked, with_password = signed(tmp_path / "locked", "secret")
    assert guests_of("127.0.0.1:0", certificate, key).key == key
    for its, wrong in ((certificate, other), (locked, with_password), (certificate, tmp_path / "none")):
        with pytest.raises(UsageError, match="not the key of") as error:
            guests_of("127.0.0.1:0", its, wrong)
        assert "without a password" in (error.value.hint or "")
    with pytest.raises(UsageError, match="not a certificate"):
        guests_of("127.0.0.1:0", key, key)


def test_browsers_leave_the_usual_port_out() -> None:
    assert _places("10.0.0.5", 443, 443) == ["10.0.0.5:443", "10.0.0.5"]
    assert _places("10.0.0.5", 8443, 443) == ["10.0.0.5:8443"]
