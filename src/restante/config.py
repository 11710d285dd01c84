"""What ``restante serve`` can be told: a file, the environment and flags, in that rising order.

The file is TOML with the field names of ``Config`` at its top level; the environment has ``RESTANTE_`` and the name in
capitals; flags are the name with hyphens. Whatever is wrong is a ``ConfigurationError`` that names the setting, where
it came from, and what is allowed.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from restante.addresses import Network, parse_networks
from restante.errors import ConfigurationError
from restante.idempotency import Policy
from restante.mailing import PORTS, check_address, parse_server
from restante.model import NAME, SETTING_BOUNDS
from restante.openid import is_safe
from restante.redaction import holds_secret
from restante.wire import signatures

FILE_NAME: Final = "restante.toml"
"""Read from the working directory when no other file is named."""
ADMIN_KEY_CHARACTERS: Final = (16, 255)
_DECADE_SECONDS: Final = 10 * 365 * 86_400
_MIB: Final = 1024 * 1024


class Address(NamedTuple):
    """Where to listen. Port 0 takes a free one. As text an IPv6 host stands in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A server's settings, all checked. Bounds are in ``SETTINGS``; both ends are inclusive."""

    data: Path = Path("restante-data")
    store: str | None = None
    """The URL of the store; None: a file in ``data``, which one process owns."""
    waker: str | None = None
    """The URL of what wakes other nodes; None: the store's own way, where it has one."""
    listen: Address = Address("127.0.0.1", 7070)
    admin_listen: Address = Address("127.0.0.1", 7071)
    grpc_listen: Address | None = None
    grpc_admin_listen: Address | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_authority: Path | None = None
    tls_client_required: bool = False
    trusted_proxies: tuple[str, ...] = ()
    admin_key: str | None = None
    log_level: str = "info"
    log_format: str = "console"
    idempotency_retention_seconds: int = 7 * 86_400
    idempotency_keys_per_principal: int = 100_000
    unknown_requests: str = Policy.REFUSE
    """What the repeat of a request is told of which nobody knows what came: ``refuse``, or ``run_again``."""
    act_retention_seconds: int = 365 * 86_400
    """How long it is kept what operators did."""
    retention_interval_seconds: float = 60.0
    poll_interval_seconds: float = 15.0
    reserve_bytes: int = 64 * _MIB
    connections_per_principal: int = 1_000
    """How many WebSockets and streams of events one client or publisher may have open."""
    client_requests_per_second: float = 5_000.0
    """How often one client may ask this node; 0: as often as it likes."""
    drain_seconds: float = 0.0
    """How long after the signal to stop all is served as before, while readiness is off."""
    node_name: str | None = None
    """What other nodes and operators see of this one; None: the machine's name."""
    shutdown_seconds: float = 10.0
    """How long a stop waits for answers under way."""
    secrets_key_file: Path | None = None
    """The keys under which secrets are sealed; None: ``secrets.key`` in ``data``."""
    ledger_key_file: Path | None = None
    """The keys that sign the heads of the log of receipts; None: ``ledger.key`` in ``data``."""
    ledger_head_seconds: float = 600.0
    """How often a head is kept for good, and sent to the three below."""
    ledger_head_file: Path | None = None
    ledger_head_url: str | None = None
    ledger_head_queue: str | None = None
    webhook_allow: tuple[str, ...] = ()
    """Networks, as CIDRs, that webhooks may go to although they are not the Internet's."""
    tracing_endpoint: str | None = None
    """Where spans are sent over OTLP/HTTP, the whole URL; None: none are made."""
    tracing_sample_ratio: float = 1.0
    """The share of the traces that begin here of which spans are made."""

    alert_depth: int = 0
    """The limits of alerts, for queues that have none of their own; 0: none."""
    alert_oldest_age_seconds: int = 0
    alert_silence_seconds: int = 0
    alert_dead: int = 0
    alert_error_rate: float = 0.0
    """A share of the attempts that ended."""
    alert_webhook_url: str | None = None
    alert_webhook_secret: str | None = None
    """What signs the calls to it; None: they are not signed."""
    alert_mail_to: tuple[str, ...] = ()
    alert_mail_from: str | None = None
    smtp_url: str | None = None
    alert_queue: str | None = None
    """The operators' own queue."""

    openid_issuer: str | None = None
    """The provider of OpenID Connect by whom operators sign in to their page; None: by accounts and keys alone."""
    openid_client_id: str | None = None
    openid_client_secret: str | None = None
    """None: this is a public client, which PKCE protects alone."""
    openid_page_url: str | None = None
    """Where browsers find the page."""
    openid_role_claim: str = "groups"
    """The claim that says who may do what; the three below are values of it."""
    openid_viewer: tuple[str, ...] = ()
    openid_operator: tuple[str, ...] = ()
    openid_admin: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # Shown in logs and tracebacks: keys and passwords must not be.
        fields = (
            f"{name}={'***' if name in _HIDDEN and value else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"Config({', '.join(fields)})"


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


class _Number(NamedTuple):
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


class _Choice(NamedTuple):
    choices: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return " or ".join(self.choices)

    def read(self, value: object) -> object:
        if value not in self.choices:
            raise ValueError
        return value


class _Listen:
    allowed = "HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070 (port 0: any free one)"

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        return parse_address(value)


class _Path(NamedTuple):
    what: str

    @property
    def allowed(self) -> str:
        return f"the path of a {self.what}"

    def read(self, value: object) -> object:
        if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
            raise ValueError
        return Path(value)


class _Name:
    allowed = "1 to 255 printable characters"

    def read(self, value: object) -> object:
        if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= 255:
            raise ValueError
        return value


class _Url(NamedTuple):
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


class _Switch:
    allowed = "true or false"

    def read(self, value: object) -> object:
        found = {"true": True, "false": False}.get(str(value).lower())
        if found is None:
            raise ValueError
        return found


class _Networks:
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


class _Trusted(_Networks):
    allowed = f"{_Networks.allowed}, and not all there are"

    def parse(self, texts: Sequence[str]) -> Sequence[Network]:
        networks = parse_networks(texts)
        # Whoever trusts everyone lets everyone be whom they like.
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError
        return networks


class _SmtpUrl(_Url):
    @property
    def allowed(self) -> str:
        return f"{super().allowed}; a user and a password only where there is TLS"

    def read(self, value: object) -> object:
        url = super().read(value)
        parse_server(str(url))
        return url


class _MailAddress:
    allowed = "a mail address such as ops@example.com"

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        return check_address(value)


class _MailAddresses:
    allowed = "mail addresses, in a list, or in text with commas between"

    def read(self, value: object) -> object:
        texts = value.split(",") if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        return tuple(check_address(text.strip()) for text in texts)


class _SafeUrl(_Url):
    @property
    def allowed(self) -> str:
        return "a URL that begins with https://, or with http:// and leads to this machine"

    def read(self, value: object) -> object:
        url = super().read(value)
        if not is_safe(str(url)):
            raise ValueError
        return url


class _Names:
    allowed = "texts of 1 to 255 printable characters, in a list, or in text with commas between"

    def read(self, value: object) -> object:
        texts = value.split(",") if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        return tuple(_Name().read(text.strip()) for text in texts)


class _QueueName:
    allowed = "the name of a queue"

    def read(self, value: object) -> object:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise ValueError
        return value


class _SigningSecret:
    allowed = "whsec_ and base64 of 24 to 64 bytes"

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        signatures.of_text(value)
        return value


class _Secret:
    allowed = "{} to {} printable ASCII characters without spaces".format(*ADMIN_KEY_CHARACTERS)

    def read(self, value: object) -> object:
        low, high = ADMIN_KEY_CHARACTERS
        if not isinstance(value, str) or not low <= len(value) <= high:
            raise ValueError
        if not all("!" <= character <= "~" for character in value):
            raise ValueError
        return value


SETTINGS: Final[Mapping[str, Kind]] = {
    "data": _Path("folder"),
    "store": _Url(("sqlite", "postgresql")),
    "waker": _Url(("postgresql", "redis", "rediss", "nats", "tls")),
    "listen": _Listen(),
    "admin_listen": _Listen(),
    "grpc_listen": _Listen(),
    "grpc_admin_listen": _Listen(),
    "tls_certificate": _Path("file"),
    "tls_key": _Path("file"),
    "tls_client_authority": _Path("file"),
    "tls_client_required": _Switch(),
    "trusted_proxies": _Trusted(),
    "admin_key": _Secret(),
    "log_level": _Choice(("debug", "info", "warning", "error")),
    "log_format": _Choice(("console", "json")),
    "idempotency_retention_seconds": _Number(1, _DECADE_SECONDS),
    "idempotency_keys_per_principal": _Number(1, 100_000_000),
    "unknown_requests": _Choice(tuple(Policy)),
    "act_retention_seconds": _Number(1, _DECADE_SECONDS),
    "retention_interval_seconds": _Number(0.01, 86_400, whole=False),
    "poll_interval_seconds": _Number(0.01, 3_600, whole=False),
    "reserve_bytes": _Number(0, 1024 * 1024 * _MIB),
    "connections_per_principal": _Number(1, 1_000_000),
    "client_requests_per_second": _Number(0, 1_000_000, whole=False),
    "drain_seconds": _Number(0, 3_600, whole=False),
    "node_name": _Name(),
    "shutdown_seconds": _Number(0, 3_600, whole=False),
    "secrets_key_file": _Path("file"),
    "ledger_key_file": _Path("file"),
    "ledger_head_seconds": _Number(1, 86_400, whole=False),
    "ledger_head_file": _Path("file"),
    "ledger_head_url": _Url(("https", "http")),
    "ledger_head_queue": _QueueName(),
    "webhook_allow": _Networks(),
    "alert_depth": _Number(0, SETTING_BOUNDS["depth_limit"].high),
    "alert_oldest_age_seconds": _Number(0, SETTING_BOUNDS["oldest_age_limit_seconds"].high),
    "alert_silence_seconds": _Number(0, SETTING_BOUNDS["silence_limit_seconds"].high),
    "alert_dead": _Number(0, SETTING_BOUNDS["dead_limit"].high),
    "alert_error_rate": _Number(0, SETTING_BOUNDS["error_rate_limit"].high, whole=False),
    "alert_webhook_url": _Url(("https", "http")),
    "alert_webhook_secret": _SigningSecret(),
    "alert_mail_to": _MailAddresses(),
    "alert_mail_from": _MailAddress(),
    "smtp_url": _SmtpUrl(tuple(PORTS)),
    "alert_queue": _QueueName(),
    "openid_issuer": _SafeUrl(("https", "http")),
    "openid_client_id": _Name(),
    "openid_client_secret": _Name(),
    "openid_page_url": _SafeUrl(("https", "http")),
    "openid_role_claim": _Name(),
    "openid_viewer": _Names(),
    "openid_operator": _Names(),
    "openid_admin": _Names(),
    "tracing_endpoint": _Url(("http", "https")),
    "tracing_sample_ratio": _Number(0, 1, whole=False),
}
_NEEDS: Final = {
    "tls_certificate": "tls_key",
    "tls_key": "tls_certificate",
    "tls_client_authority": "tls_certificate",
    "tls_client_required": "tls_client_authority",
    "alert_webhook_secret": "alert_webhook_url",
    "alert_mail_to": "smtp_url",
    "smtp_url": "alert_mail_from",
    "alert_mail_from": "alert_mail_to",
    "openid_issuer": "openid_client_id",
    "openid_client_id": "openid_page_url",
    "openid_page_url": "openid_issuer",
    "openid_client_secret": "openid_issuer",
    "openid_viewer": "openid_issuer",
    "openid_operator": "openid_issuer",
    "openid_admin": "openid_issuer",
}
"""Settings that mean nothing without another."""
_HIDDEN: Final = frozenset(
    {
        *("admin_key", "store", "waker", "tracing_endpoint"),
        *(
            "ledger_head_url",
            "alert_webhook_url",
            "alert_webhook_secret",
            "smtp_url",
            "openid_client_secret",
        ),
    }
)
"""Never shown whole: they are, or may hold, a secret."""
_SECRETS: Final = frozenset({"admin_key", "alert_webhook_secret", "openid_client_secret"})
"""Only from the environment: files are copied and flags are seen by every user of the machine."""


def load(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object | None]
) -> Config:
    """The settings of a file (None: there is none), of ``RESTANTE_*``, and of flags, in that rising order.

    A flag that is None was not given, and an empty variable counts as none. Variables that name no setting are let be:
    other programs make them (Kubernetes sets ``RESTANTE_PORT`` for a service of that name). Relative paths in the file
    are relative to the file.
    """
    values = _from_file(file) if file is not None else {}
    for name in SETTINGS:
        if text := environment.get(variable := f"RESTANTE_{name.upper()}"):
            values[name] = _read(name, text, variable)
    for name, value in flags.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            values[name] = _read(name, value, flag)
            if isinstance(SETTINGS[name], _Url) and holds_secret(str(value)):
                raise ConfigurationError(
                    f"{flag} holds a password or a token, which every user of this machine could see;"
                    f" put it into RESTANTE_{name.upper()} or a file of settings"
                )
    config = msgspec.convert(values, Config, strict=False)
    _check_addresses(config)
    for name, needed in _NEEDS.items():
        if getattr(config, name) and not getattr(config, needed):
            raise ConfigurationError(f"{name} is set and {needed} is not: it takes both")
    return config


def _check_addresses(config: Config) -> None:
    taken: dict[Address, str] = {}
    for name in ("listen", "admin_listen", "grpc_listen", "grpc_admin_listen"):
        address: Address | None = getattr(config, name)
        if address is None or not address.port:
            continue
        other = taken.setdefault(address, name)
        if other != name:
            raise ConfigurationError(
                f"{other} and {name} are both {address}: each needs an address of its own"
            )


def _from_file(file: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    values: dict[str, object] = {}
    for name, value in document.items():
        if name in _SECRETS:
            raise ConfigurationError(
                f"{name} in {file}: it is taken from the environment only, RESTANTE_{name.upper()}"
            )
        if name not in SETTINGS:
            raise ConfigurationError(f"{name} in {file}: there is no such setting{_nearest(name)}")
        values[name] = _read(name, value, f"{name} in {file}")
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = file.parent / value
    return values


def _read(name: str, value: object, source: str) -> object:
    kind = SETTINGS[name]
    try:
        return kind.read(value)
    except (ValueError, OverflowError):
        shown = "this value" if name in _HIDDEN else repr(value)
        # The cause would only repeat the value, which may be a secret.
        raise ConfigurationError(
            f"{source}: {shown} is not allowed; it takes {kind.allowed}"
        ) from None


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, SETTINGS, n=1)
    if near:
        return f" (did you mean {near[0]}?)"
    return f"; there are {', '.join(sorted(set(SETTINGS) - _SECRETS))}"
