"""TLS of a listener: which files, what has to be in them, and how new ones take the place of old ones.

The files are read at the start and when they are renewed, never in between. What is wrong with them is a
``ConfigurationError`` that names the file and the reason, so that an operator need not guess which of the three it is.
"""

from __future__ import annotations

import datetime
import os
import ssl
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from restante.errors import ConfigurationError

ALPN: Final = ["http/1.1"]
"""All that is spoken behind it (RFC 7301): a client that could do more does not try."""


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files: the server's certificate with its chain, its key, and who signs the clients' certificates.

    With an authority clients may show a certificate, and one that the authority has not signed ends the handshake.
    ``client_required``: who shows none gets no connection.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None
    client_required: bool = False


class Pem(msgspec.Struct, frozen=True, kw_only=True):
    """What was in the files: PEM that has been looked at, and the end of the certificate's life."""

    certificate: bytes
    key: bytes
    client_authority: bytes | None
    valid_until: datetime.datetime


def read(files: TlsFiles) -> Pem:
    """The files' contents, each found to be what it should. Raises ``ConfigurationError``."""
    chain = _bytes(files.certificate)
    certificate = _certificates(files.certificate, chain)[0]
    key = _bytes(files.key)
    if _public_key(files.key, key) != _certified_key(files.certificate, certificate):
        raise ConfigurationError(
            f"{files.key} is not the key of the certificate in {files.certificate}"
        )
    authority = None
    if files.client_authority is not None:
        authority = _bytes(files.client_authority)
        _certificates(files.client_authority, authority)
    return Pem(
        certificate=chain,
        key=key,
        client_authority=authority,
        valid_until=certificate.not_valid_after_utc,
    )


class ServerContext(ssl.SSLContext):
    """A context whose files can be renewed: each connection is made by those that were last found good.

    ``files`` are named and ``pem`` is what was in them, for a listener that has TLS of its own. Sessions are resumed
    within one set of files only, so that no client outlives the authority that let it in.
    """

    files: TlsFiles
    pem: Pem
    _current: ssl.SSLContext

    def __new__(cls, files: TlsFiles) -> ServerContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self.renew()

    def renew(self) -> datetime.datetime:
        """Read the files again; when the certificate ends. Raises ``ConfigurationError``, and nothing has changed."""
        pem = read(self.files)
        self._current = _context(self.files, pem)
        self.pem = pem
        return pem.valid_until

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        # The one thing that event loops do with a context, once for each connection.
        return self._current.wrap_bio(*args, **kwargs)


def _context(files: TlsFiles, pem: Pem) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    try:
        _load_chain(context, pem)
        if pem.client_authority is not None:
            # An authority that is itself signed by another is as good: it is the one that was named.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_mode = ssl.CERT_REQUIRED if files.client_required else ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=pem.client_authority.decode("ascii", "ignore"))
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise ConfigurationError(
            f"{files.certificate} and {files.key} cannot be used for TLS: {reason}"
        ) from error
    return context


def _load_chain(context: ssl.SSLContext, pem: Pem) -> None:
    """What has been looked at, and not what the files hold by now: it takes files, so a file in memory."""
    descriptor = os.memfd_create("restante-tls", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem.key + b"\n" + pem.certificate)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


_PUBLIC: Final = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigurationError(f"{path} holds no certificate in PEM ({error})") from error


def _certified_key(path: Path, certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(*_PUBLIC)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is for a key of no known kind ({error})") from error


def _public_key(path: Path, pem: bytes) -> bytes:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError as error:
        # Nobody is there to be asked for it.
        raise ConfigurationError(f"the key in {path} is protected by a pass phrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # Not the cause's own words, which may show a part of the file.
        raise ConfigurationError(f"{path} holds no private key in PEM") from error
    return key.public_key().public_bytes(*_PUBLIC)
