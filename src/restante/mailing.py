"""Where mail goes out, and whom it may go to: the URL of a server, and addresses."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

ADDRESS_CHARACTERS: Final = 254
PORTS: Final = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
"""By scheme: STARTTLS that the server has to know, TLS from the first byte, and nothing of the kind."""
# Narrower than RFC 5321: nothing that a header or a command could take for its own.
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII
)


class MailServer(NamedTuple):
    """``scheme`` is one of ``PORTS``; ``user`` is empty where nobody logs in."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = ""


def parse_server(url: str) -> MailServer:
    """The server of ``smtp://user:password@host:587``; ``ValueError`` where it is none.

    What a user name or a password holds of ``@ : / %`` is percent-encoded. None of them goes out in the clear.
    """
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("not the URL of a mail server")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password) or (user and parts.scheme == "smtp+plain"):
        raise ValueError("a user has a password, and neither is sent without TLS")
    return MailServer(
        parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme], user, password
    )


def check_address(text: str) -> str:
    """The mail address itself; ``ValueError`` where it is none, or more than one."""
    if len(text) > ADDRESS_CHARACTERS or not _ADDRESS.fullmatch(text):
        raise ValueError("not a mail address")
    return text
