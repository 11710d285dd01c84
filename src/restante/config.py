"""What ``restante serve`` can be told: a file, the environment and flags, in that rising order.

The file is TOML with the field names of ``Config`` at its top level; the environment has ``RESTANTE_`` and the name in
capitals; flags are the name with hyphens. Whatever is wrong is a ``ConfigurationError`` that names the setting, where
it came from, and what is allowed.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from restante import setting_kinds as kinds
from restante.errors import ConfigurationError
from restante.idempotency import Policy
from restante.mailing import PORTS
from restante.model import SETTING_BOUNDS
from restante.redaction import holds_secret
from restante.setting_kinds import Address, parse_address

__all__ = ["FILE_NAME", "SETTINGS", "Address", "Config", "load", "parse_address"]

FILE_NAME: Final = "restante.toml"
"""Read from the working directory when no other file is named."""
_DECADE_SECONDS: Final = 10 * 365 * 86_400
_MIB: Final = 1024 * 1024


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


SETTINGS: Final[Mapping[str, kinds.Kind]] = {
    "data": kinds.PathTo("folder"),
    "store": kinds.Url(("sqlite", "postgresql")),
    "waker": kinds.Url(("postgresql", "redis", "rediss", "nats", "tls")),
    "listen": kinds.Listen(),
    "admin_listen": kinds.Listen(),
    "grpc_listen": kinds.Listen(),
    "grpc_admin_listen": kinds.Listen(),
    "tls_certificate": kinds.PathTo("file"),
    "tls_key": kinds.PathTo("file"),
    "tls_client_authority": kinds.PathTo("file"),
    "tls_client_required": kinds.Switch(),
    "trusted_proxies": kinds.Trusted(),
    "admin_key": kinds.Secret(),
    "log_level": kinds.Choice(("debug", "info", "warning", "error")),
    "log_format": kinds.Choice(("console", "json")),
    "idempotency_retention_seconds": kinds.Number(1, _DECADE_SECONDS),
    "idempotency_keys_per_principal": kinds.Number(1, 100_000_000),
    "unknown_requests": kinds.Choice(tuple(Policy)),
    "act_retention_seconds": kinds.Number(1, _DECADE_SECONDS),
    "retention_interval_seconds": kinds.Number(0.01, 86_400, whole=False),
    "poll_interval_seconds": kinds.Number(0.01, 3_600, whole=False),
    "reserve_bytes": kinds.Number(0, 1024 * 1024 * _MIB),
    "connections_per_principal": kinds.Number(1, 1_000_000),
    "client_requests_per_second": kinds.Number(0, 1_000_000, whole=False),
    "drain_seconds": kinds.Number(0, 3_600, whole=False),
    "node_name": kinds.Name(),
    "shutdown_seconds": kinds.Number(0, 3_600, whole=False),
    "secrets_key_file": kinds.PathTo("file"),
    "ledger_key_file": kinds.PathTo("file"),
    "ledger_head_seconds": kinds.Number(1, 86_400, whole=False),
    "ledger_head_file": kinds.PathTo("file"),
    "ledger_head_url": kinds.Url(("https", "http")),
    "ledger_head_queue": kinds.QueueName(),
    "webhook_allow": kinds.Networks(),
    "alert_depth": kinds.Number(0, SETTING_BOUNDS["depth_limit"].high),
    "alert_oldest_age_seconds": kinds.Number(0, SETTING_BOUNDS["oldest_age_limit_seconds"].high),
    "alert_silence_seconds": kinds.Number(0, SETTING_BOUNDS["silence_limit_seconds"].high),
    "alert_dead": kinds.Number(0, SETTING_BOUNDS["dead_limit"].high),
    "alert_error_rate": kinds.Number(0, SETTING_BOUNDS["error_rate_limit"].high, whole=False),
    "alert_webhook_url": kinds.Url(("https", "http")),
    "alert_webhook_secret": kinds.SigningSecret(),
    "alert_mail_to": kinds.MailAddresses(),
    "alert_mail_from": kinds.MailAddress(),
    "smtp_url": kinds.SmtpUrl(tuple(PORTS)),
    "alert_queue": kinds.QueueName(),
    "openid_issuer": kinds.SafeUrl(("https", "http")),
    "openid_client_id": kinds.Name(),
    "openid_client_secret": kinds.Name(),
    "openid_page_url": kinds.SafeUrl(("https", "http")),
    "openid_role_claim": kinds.Name(),
    "openid_viewer": kinds.Names(),
    "openid_operator": kinds.Names(),
    "openid_admin": kinds.Names(),
    "tracing_endpoint": kinds.Url(("http", "https")),
    "tracing_sample_ratio": kinds.Number(0, 1, whole=False),
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
            if isinstance(SETTINGS[name], kinds.Url) and holds_secret(str(value)):
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
