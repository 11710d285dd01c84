"""What a client's certificate says: by which names it may be let in, and until when.

Whoever ended the TLS connection has verified it: this listener, or a proxy that is trusted. Here it is only read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography import x509

from restante.certificates import canonical, key_id
from restante.errors import InvalidName, Unauthenticated

NAMES: Final = 16
"""Of more names the rest do not count: each that nobody has is a question to the store."""
_KINDS: Final[tuple[tuple[type[x509.GeneralName], str], ...]] = (
    (x509.DNSName, "dns"),
    (x509.UniformResourceIdentifier, "uri"),
    (x509.RFC822Name, "email"),
)


class ClientCertificate(NamedTuple):
    """Its names, as they are kept, each with the id it is found by; and its last millisecond since 1970 UTC."""

    names: tuple[tuple[str, str], ...]
    valid_until_ms: int


def read(pem: str) -> ClientCertificate:
    """Read the first certificate in PEM; ``Unauthenticated`` when it is none.

    The names stand in the certificate's order. Those that cannot be a credential are left out: wildcards, addresses,
    and whatever is neither of the three kinds.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound as error:
        raise Unauthenticated("the certificate has no subject alternative name") from error
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Unauthenticated("the certificate cannot be read") from error
    names: list[tuple[str, str]] = []
    for general in extension.value:
        for kind, prefix in _KINDS:
            if isinstance(general, kind):
                try:
                    san = canonical(f"{prefix}:{general.value}")
                except InvalidName:
                    continue
                names.append((san, key_id(san)))
    until = certificate.not_valid_after_utc.timestamp()
    # To the end of that second (RFC 5280, section 4.1.2.5).
    return ClientCertificate(tuple(names[:NAMES]), int(until) * 1_000 + 999)
