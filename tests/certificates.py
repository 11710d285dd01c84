"""Certificates for tests, as PEM files in a folder: an authority of ``trustme``'s, and what it signs."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)


class Issued(NamedTuple):
    """A certificate and its key, in two files."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> str:
        return self.certificate.read_text()

    @property
    def der(self) -> bytes:
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return certificate.public_bytes(serialization.Encoding.DER)


class Authority:
    """Signs for servers and for clients. ``file`` is its own certificate."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def for_server(self, *names: str, file: str = "server") -> Issued:
        """A certificate of those host names and addresses."""
        made = self._ca.issue_cert(*names)
        return self._written(
            file,
            b"".join(blob.bytes() for blob in made.cert_chain_pems),
            made.private_key_pem.bytes(),
        )

    def for_client(
        self,
        *sans: str,
        file: str = "client",
        common_name: str = "",
        valid: tuple[datetime.timedelta, datetime.timedelta] = (-DAY, DAY),
    ) -> Issued:
        """A certificate with names as ``dns:``, ``uri:`` or ``email:``, valid from and until so long from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
        )
        if sans:
            names = x509.SubjectAlternativeName(_names(sans))
            builder = builder.add_extension(names, critical=not subject)
        signer = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        made = builder.sign(signer, hashes.SHA256())
        return self._written(
            file,
            made.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def _written(self, file: str, certificate: bytes, key: bytes) -> Issued:
        issued = Issued(
            self._folder / f"{self._name}-{file}.pem", self._folder / f"{self._name}-{file}.key"
        )
        issued.certificate.write_bytes(certificate)
        issued.key.write_bytes(key)
        return issued


def _names(sans: Sequence[str]) -> list[x509.GeneralName]:
    kinds: dict[str, Callable[[str], x509.GeneralName]] = {
        "dns": x509.DNSName,
        "uri": x509.UniformResourceIdentifier,
        "email": x509.RFC822Name,
    }
    return [kinds[kind](value) for kind, _, value in (san.partition(":") for san in sans)]
