"""Certificates as credentials: which of their names count, how these are written, and by which id they are found.

The name is a subject alternative name (RFC 5280, section 4.2.1.6), written ``dns:backend.acme.example``,
``uri:spiffe://acme/backend`` or ``email:ops@acme.example``. Common names do not count (RFC 9525, section 2), nor do
wildcards: a credential is one name, and stands for one principal.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from restante.errors import InvalidName

SAN_CHARACTERS: Final = 1_024
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = rf"{_LABEL}(\.{_LABEL}){{0,60}}"
SAN_PATTERN: Final = (
    rf"(dns:{_HOST}"
    r"|uri:[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+"
    rf"|email:[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_HOST})"
)
"""Letters beyond ASCII stand in a certificate as RFC 5890 and RFC 3986 have it: ``xn--...`` and ``%..``."""
_SAN: Final = re.compile(SAN_PATTERN, re.ASCII)
_ID_BYTES: Final = 15


def canonical(san: str) -> str:
    """The name as it is kept and compared: host names in lower case, all else as it is (RFC 5280, section 7).

    ``InvalidName`` for what is no such name, or has more than 1,024 characters.
    """
    if len(san) > SAN_CHARACTERS or not _SAN.fullmatch(san):
        raise InvalidName(
            "certificate_san must be dns:, uri: or email: and a name without wildcards,"
            f" at most {SAN_CHARACTERS:,} characters"
        )
    kind, _, value = san.partition(":")
    if kind == "dns":
        return san.lower()
    if kind == "email":
        local, _, host = value.rpartition("@")
        return f"email:{local}@{host.lower()}"
    return san


def key_id(san: str) -> str:
    """The id of the credential for that canonical name: no index is needed to find it."""
    digest = hashlib.sha256(san.encode()).digest()[:_ID_BYTES]
    return f"san-{base64.b32encode(digest).decode().lower()}"
