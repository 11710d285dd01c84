"""``restante serve``: the server as a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.config import FILE_NAME, Config, load

if TYPE_CHECKING:
    from restante.app import Started

_TLS: Final = "TLS and proxies"
_LIMITS: Final = "Limits and intervals"
_WEBHOOKS: Final = "Webhooks"
_LEDGER: Final = "Ledger"
_NODES: Final = "Many nodes"
_ALERTS: Final = "Alerts"
_OPENID: Final = "Signing in by OpenID Connect"
_TRACING: Final = "Traces"


def serve(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Settings in TOML; else RESTANTE_CONFIG, else {FILE_NAME} here if there is one.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where everything is kept.  [default: ./restante-data]"),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="postgresql://USER@HOST/DATABASE, for many nodes.  [default: a file in DIR]",
            show_default=False,
            rich_help_panel=_NODES,
        ),
    ] = None,
    waker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="What wakes other nodes: redis://, rediss://, nats:// or postgresql://.  [default: the store]",
            show_default=False,
            rich_help_panel=_NODES,
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve; port 0 takes a free one.  [default: 127.0.0.1:7070]",
        ),
    ] = None,
    admin_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where /healthz, /readyz and /metrics are.  [default: 127.0.0.1:7071]",
        ),
    ] = None,
    grpc_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve gRPC; port 0 takes a free one.  [default: nowhere]",
            show_default=False,
        ),
    ] = None,
    grpc_admin_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where gRPC's health and reflection are.  [default: nowhere]",
            show_default=False,
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Speak https: the certificate with its chain, in PEM. SIGHUP reads it again.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The certificate's key, in PEM.", rich_help_panel=_TLS),
    ] = None,
    tls_client_authority: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Clients may show certificates that are signed by one of these, in PEM.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    tls_client_required: Annotated[
        bool | None,
        typer.Option(
            "--tls-client-required",
            help="Let nobody in who shows none.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    trusted_proxies: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORKS",
            help="Whose X-Forwarded-* and Client-Cert headers are believed; with commas between.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.  [default: info]")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="console or json.  [default: console]")
    ] = None,
    idempotency_retention_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How long an idempotency key is remembered.  [default: 604800]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    idempotency_keys_per_principal: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How many requests with keys are remembered of one principal.  [default: 100000]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    unknown_requests: Annotated[
        str | None,
        typer.Option(
            help="The repeat of a request in which a server crashed: refuse or run_again.  [default: refuse]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    act_retention_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How long it is kept who did what.  [default: 31536000, a year]",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    retention_interval_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How often what is past its retention is deleted.  [default: 60]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    poll_interval_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How often to look for work that nobody told of.  [default: 15]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    reserve_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Disk kept free of new notifications.  [default: 67108864]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    connections_per_principal: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How many connections one client or publisher may keep open.  [default: 1000]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    client_requests_per_second: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How often one client may ask this node; 0: no limit.  [default: 5000]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    node_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What this node is called in lists.  [default: the machine's name]",
            show_default=False,
            rich_help_panel=_NODES,
        ),
    ] = None,
    drain_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How long a stop leaves balancers to notice that it is not ready.  [default: 0]",
            rich_help_panel=_NODES,
        ),
    ] = None,
    shutdown_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How long a stop waits for answers under way.  [default: 10]",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    secrets_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The keys that seal webhooks' secrets.  [default: DIR/secrets.key, made at first start]",
            rich_help_panel=_WEBHOOKS,
        ),
    ] = None,
    ledger_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The keys that sign heads of the log of receipts.  [default: DIR/ledger.key, made at first start]",
            rich_help_panel=_LEDGER,
        ),
    ] = None,
    ledger_head_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How often a head is kept for good, and sent to the three below.  [default: 600]",
            rich_help_panel=_LEDGER,
        ),
    ] = None,
    ledger_head_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append heads to this file, best on another machine's disk.",
            rich_help_panel=_LEDGER,
        ),
    ] = None,
    ledger_head_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="POST heads to this address.", rich_help_panel=_LEDGER),
    ] = None,
    ledger_head_queue: Annotated[
        str | None,
        typer.Option(metavar="QUEUE", help="Publish heads to this queue.", rich_help_panel=_LEDGER),
    ] = None,
    webhook_allow: Annotated[
        str | None,
        typer.Option(
            metavar="CIDR,...",
            help="Networks that webhooks may go to although they are not the Internet's.",
            rich_help_panel=_WEBHOOKS,
        ),
    ] = None,
    alert_depth: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Alert where so many wait in a queue; 0: never.  [default: 0]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_oldest_age_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Alert where the oldest has waited so long; 0: never.  [default: 0]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_silence_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Alert where a client has neither asked nor signed for so long; 0: never.  [default: 0]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_dead: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Alert where a queue has so many dead letters; 0: never.  [default: 0]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_error_rate: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Alert where such a share of the attempts fails, 0.1 for 10 %; 0: never.  [default: 0]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_webhook_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where alerts are posted. RESTANTE_ALERT_WEBHOOK_SECRET signs them.  [default: nowhere]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_mail_to: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS,...",
            help="Whom alerts are mailed to; takes the two below.  [default: nobody]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_mail_from: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Whom those mails are from.",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    smtp_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The mail server: smtp:// (STARTTLS), smtps:// or smtp+plain://.",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    alert_queue: Annotated[
        str | None,
        typer.Option(
            metavar="QUEUE",
            help="The queue of yours that alerts are published to.  [default: none]",
            show_default=False,
            rich_help_panel=_ALERTS,
        ),
    ] = None,
    openid_issuer: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="By whom operators sign in to their page; takes the two below.  [default: nobody]",
            show_default=False,
            rich_help_panel=_OPENID,
        ),
    ] = None,
    openid_client_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="What this service is called there. RESTANTE_OPENID_CLIENT_SECRET is its secret.",
            show_default=False,
            rich_help_panel=_OPENID,
        ),
    ] = None,
    openid_page_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where browsers find the page.",
            show_default=False,
            rich_help_panel=_OPENID,
        ),
    ] = None,
    openid_role_claim: Annotated[
        str | None,
        typer.Option(
            metavar="CLAIM",
            help="The claim that says who may do what.  [default: groups]",
            show_default=False,
            rich_help_panel=_OPENID,
        ),
    ] = None,
    openid_viewer: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE,...",
            help="Values of it that make a viewer.",
            show_default=False,
            rich_help_panel=_OPENID,
        ),
    ] = None,
    openid_operator: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE,...",
            help="Values of it that make an operator.",
            show_default=False,
            rich_help_panel=_OPENID,
        ),
    ] = None,
    openid_admin: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE,...",
            help="Values of it that make an admin.",
            show_default=False,
            rich_help_panel=_OPENID,
        ),
    ] = None,
    tracing_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Make traces, and send them there over OTLP/HTTP: http://HOST:4318/v1/traces.  [default: none]",
            show_default=False,
            rich_help_panel=_TRACING,
        ),
    ] = None,
    tracing_sample_ratio: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="The share of the traces that begin here that are made, 0 to 1.  [default: 1]",
            show_default=False,
            rich_help_panel=_TRACING,
        ),
    ] = None,
) -> None:
    """Run the server until SIGTERM or SIGINT.

    Each setting is taken from the file, else RESTANTE_* in the environment, else its flag, in that rising order.
    RESTANTE_ADMIN_KEY sets the first administrator's key; without it the first start writes one to DIR/admin.key.

    One line "ready http://HOST:PORT" (or https) on stdout says that it serves, after "grpc HOST:PORT" and
    "grpc-admin HOST:PORT" for listeners of gRPC; logs go to stderr.

    Example: restante serve --data /var/lib/restante --listen 0.0.0.0:7070
    """
    settings = load(
        settings_file(config),
        os.environ,
        {
            "data": data,
            "store": store,
            "waker": waker,
            "listen": listen,
            "admin_listen": admin_listen,
            "grpc_listen": grpc_listen,
            "grpc_admin_listen": grpc_admin_listen,
            "tls_certificate": tls_certificate,
            "tls_key": tls_key,
            "tls_client_authority": tls_client_authority,
            "tls_client_required": tls_client_required,
            "trusted_proxies": trusted_proxies,
            "log_level": log_level,
            "log_format": log_format,
            "idempotency_retention_seconds": idempotency_retention_seconds,
            "idempotency_keys_per_principal": idempotency_keys_per_principal,
            "unknown_requests": unknown_requests,
            "act_retention_seconds": act_retention_seconds,
            "retention_interval_seconds": retention_interval_seconds,
            "poll_interval_seconds": poll_interval_seconds,
            "reserve_bytes": reserve_bytes,
            "connections_per_principal": connections_per_principal,
            "client_requests_per_second": client_requests_per_second,
            "node_name": node_name,
            "drain_seconds": drain_seconds,
            "shutdown_seconds": shutdown_seconds,
            "secrets_key_file": secrets_key_file,
            "ledger_key_file": ledger_key_file,
            "ledger_head_seconds": ledger_head_seconds,
            "ledger_head_file": ledger_head_file,
            "ledger_head_url": ledger_head_url,
            "ledger_head_queue": ledger_head_queue,
            "webhook_allow": webhook_allow,
            "alert_depth": alert_depth,
            "alert_oldest_age_seconds": alert_oldest_age_seconds,
            "alert_silence_seconds": alert_silence_seconds,
            "alert_dead": alert_dead,
            "alert_error_rate": alert_error_rate,
            "alert_webhook_url": alert_webhook_url,
            "alert_mail_to": alert_mail_to,
            "alert_mail_from": alert_mail_from,
            "smtp_url": smtp_url,
            "alert_queue": alert_queue,
            "openid_issuer": openid_issuer,
            "openid_client_id": openid_client_id,
            "openid_page_url": openid_page_url,
            "openid_role_claim": openid_role_claim,
            "openid_viewer": openid_viewer,
            "openid_operator": openid_operator,
            "openid_admin": openid_admin,
            "tracing_endpoint": tracing_endpoint,
            "tracing_sample_ratio": tracing_sample_ratio,
        },
    )
    raise typer.Exit(run(settings))


def run(config: Config) -> int:
    """Serve in this process until a signal ends it; the exit code. Raises ``StartupError``."""
    import uvloop

    from restante.app import serve as serve_app
    from restante.cli.logs import configure

    configure(config.log_level, config.log_format)
    return uvloop.run(serve_app(config, _ready))


def _ready(started: Started) -> None:
    if started.key_file is not None:
        # The path and never the key: logs are read by many.
        print(f"The administrator's key is in {started.key_file.resolve()}", file=sys.stderr)
    print(f"Health is at {started.admin_url}/healthz", file=sys.stderr, flush=True)
    if started.has_page:
        print(f"The operators' page is at {started.admin_url}/", file=sys.stderr, flush=True)
    for name, address in started.grpc.items():
        print(f"{name} {address}")
    print(f"ready {started.url}", flush=True)


def settings_file(named: Path | None) -> Path | None:
    """The file of settings: the one named, else that of the environment, else the one here if there is one."""
    if named is not None:
        return named
    if text := os.environ.get("RESTANTE_CONFIG"):
        return Path(text)
    here = Path(FILE_NAME)
    return here if here.exists() else None
