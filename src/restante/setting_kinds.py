"""The kinds of a server's settings: how each is read, from TOML's types or from text, and what is allowed."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from restante.addresses import Network, parse_networks
from restante.mailing import check_address, parse_server
from restante.model import NAME
from restante.openid import is_safe
from restante.wire import signatures

ADMIN_KEY_CHARACTERS: Final = (16, 255)


class Address(NamedTuple):
    """Where to listen. Port 0 takes a free one. As text an IPv6 host stands in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address of ``HOST:PORT`` or ``[IPV6]:PORT``; ``ValueError`` when it is neither."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host or "[" in host:
        raise ValueError("an IPv6 address stands in brackets")
    if not host or not colon or host != host.strip() or not port.isascii() or not port.isdigit():
        raise ValueError("not HOST:PORT")
    if int(port) > 65_535:
        raise ValueError("no such port")
    return Address(host, int(port))


class Kind(Protocol):
    """How one setting is read, from TOML's types or from text."""

    @property
    def allowed(self) -> str: ...

    def read(self, value: object) -> object:
        """The setting's value; ``ValueError`` when it is not allowed."""


class Number(NamedTuple):
    low: float
    high: float
    whole: bool = True

    @property
    def allowed(self) -> str:
        what = "a whole number" if self.whole else "a number"
        return f"{what} from {self.low:,} to {self.high:,}"

    def read(self, value: object) -> object:
        number: float
        if isinstance(value, str):
            number = int(value) if self.whole else float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = value
        else:
            raise ValueError
        if not self.low <= number <= self.high or (self.whole and number != int(number)):
            raise ValueError
        return int(number) if self.whole else float(number)


class Choice(NamedTuple):
    choices: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return " or ".join(self.choices)

    def read(self, value: object) -> object:
        if value not in self.choices:
            raise ValueError
        return value


class Listen:
    allowed = "HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070 (port 0: any free one)"

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        return parse_address(value)


class PathTo(NamedTuple):
    what: str

    @property
    def allowed(self) -> str:
        return f"the path of a {self.what}"

    def read(self, value: object) -> object:
        if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
            raise ValueError
        return Path(value)


class Name:
    allowed = "1 to 255 printable characters"

    def read(self, value: object) -> object:
        if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= 255:
            raise ValueError
        return value


class Url(NamedTuple):
    schemes: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in self.schemes)}"

    def read(self, value: object) -> object:
        if not isinstance(value, str) or not value.isprintable() or " " in value:
            raise ValueError
        scheme, separator, rest = value.partition("://")
        if scheme not in self.schemes or not separator or not rest:
            raise ValueError
        return value


class Switch:
    allowed = "true or false"

    def read(self, value: object) -> object:
        found = {"true": True, "false": False}.get(str(value).lower())
        if found is None:
            raise ValueError
        return found


class Networks:
    allowed = "networks such as 10.0.0.0/8 and fd00::/8, in a list, or in text with commas between"

    def read(self, value: object) -> object:
        texts = value
        if isinstance(value, str):
            texts = [part for part in value.split(",") if part.strip()]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        return tuple(str(network) for network in self.parse(texts))

    def parse(self, texts: Sequence[str]) -> Sequence[Network]:
        return parse_networks(texts)


class Trusted(Networks):
    allowed = f"{Networks.allowed}, and not all there are"

    def parse(self, texts: Sequence[str]) -> Sequence[Network]:
        networks = parse_networks(texts)
        # Whoever trusts everyone lets everyone be whom they like.
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError
        return networks


class SmtpUrl(Url):
    @property
    def allowed(self) -> str:
        return f"{super().allowed}; a user and a password only where there is TLS"

    def read(self, value: object) -> object:
        url = super().read(value)
        parse_server(str(url))
        return url


class MailAddress:
    allowed = "a mail address such as ops@example.com"

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        return check_address(value)


class MailAddresses:
    allowed = "mail addresses, in a list, or in text with commas between"

    def read(self, value: object) -> object:
        texts = value.split(",") if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        return tuple(check_address(text.strip()) for text in texts)


class SafeUrl(Url):
    @property
    def allowed(self) -> str:
        return "a URL that begins with https://, or with http:// and leads to this machine"

    def read(self, value: object) -> object:
        url = super().read(value)
        if not is_safe(str(url)):
            raise ValueError
        return url


class Names:
    allowed = "texts of 1 to 255 printable characters, in a list, or in text with commas between"

    def read(self, value: object) -> object:
        texts = value.split(",") if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        return tuple(Name().read(text.strip()) for text in texts)


class QueueName:
    allowed = "the name of a queue"

    def read(self, value: object) -> object:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise ValueError
        return value


class SigningSecret:
    allowed = "whsec_ and base64 of 24 to 64 bytes"

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        signatures.of_text(value)
        return value


class Secret:
    allowed = "{} to {} printable ASCII characters without spaces".format(*ADMIN_KEY_CHARACTERS)

    def read(self, value: object) -> object:
        low, high = ADMIN_KEY_CHARACTERS
        if not isinstance(value, str) or not low <= len(value) <= high:
            raise ValueError
        if not all("!" <= character <= "~" for character in value):
            raise ValueError
        return value
