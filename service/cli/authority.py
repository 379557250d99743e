"""A certificate authority of our own, in a directory. It needs the package `cryptography`.

In: names of machines. Out: for each machine ca.pem, certificate.pem and key.pem, as VLLM_WSGI_TLS expects them.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..transport.credentials import CA, CERTIFICATE, KEY

CA_DAYS = 3650
# A certificate is valid a little earlier than now: clocks differ.
CLOCK_SKEW = timedelta(minutes=10)
# Engine hosts are reached by their own machine, too.
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Authority:
    """Certifies machines. Engine hosts can also prove to be servers; web machines can't pass for an engine host."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def at(cls, directory: Path) -> Authority:
        """Return the authority in this directory, made when there is none. Raises OSError."""
        if (directory / KEY).exists():
            key = serialization.load_pem_private_key((directory / KEY).read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return cls(x509.load_pem_x509_certificate((directory / CA).read_bytes()), key)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("vllm-wsgi CA")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            _builder(name, key.public_key(), name, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        authority = cls(builder.sign(key, hashes.SHA256()), key)
        _write(directory, {KEY: _private(key), CA: _public(authority._certificate)})
        return authority

    def certify(self, directory: Path, names: list[str], is_engine: bool, days: float) -> None:
        """Write what a machine needs into its directory, in place of what is there. Raises OSError."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if is_engine else [])]
        known_as = dict.fromkeys([*names, *(LOCAL_NAMES if is_engine else ())])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(_name(names[0]), key.public_key(), self._certificate.subject, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([_known_as(name) for name in known_as]), critical=False)
            .add_extension(issuer_key, critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        _write(directory, {KEY: _private(key), CERTIFICATE: _public(certificate), CA: _public(self._certificate)})


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _known_as(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.removesuffix("."))


def _public(certificate: x509.Certificate) -> bytes:
    pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return pem


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return pem


def _write(directory: Path, files: dict[str, bytes]) -> None:
    """Write each file whole or not at all; nobody else can read them."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in files.items():
        part = directory / f".{name}.part"
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        part.replace(directory / name)
