"""Certificates for servers on this machine, of an authority that nobody else knows."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority for tests")])


@dataclass(frozen=True)
class Identity:
    """What a server is known by."""

    certificate: bytes
    key: bytes
    serial: int

    def save(self, certificate: Path, key: Path) -> None:
        """Writes it where a server reads it: the key for its owner alone."""
        certificate.write_bytes(self.certificate)
        key.touch(mode=0o600)
        key.write_bytes(self.key)


class Authority:
    """Signs certificates of this machine."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        own = _builder(NAME, self._key).add_extension(constraints, critical=True)
        #: The file of its own certificate: whom to trust.
        self.file = directory / "authority.pem"
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(PEM))

    def identity(self) -> Identity:
        """A certificate for 127.0.0.1, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        signed = _builder(x509.Name([]), key).add_extension(here, critical=True).sign(self._key, hashes.SHA256())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Identity(signed.public_bytes(PEM), private, signed.serial_number)

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """A client that knows servers by this authority, and speaks these protocols (ALPN)."""
        context = ssl.create_default_context(cafile=self.file)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context


def _builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(NAME).public_key(key.public_key())
    return made.serial_number(x509.random_serial_number()).not_valid_before(now - hour).not_valid_after(now + hour)
