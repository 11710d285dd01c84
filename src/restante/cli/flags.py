"""The flags of ``restante serve``: each one a setting, with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from restante.config import FILE_NAME

_TLS: Final = "TLS and proxies"
_LIMITS: Final = "Limits and intervals"
_WEBHOOKS: Final = "Webhooks"
_LEDGER: Final = "Ledger"
_NODES: Final = "Many nodes"
_ALERTS: Final = "Alerts"
_OPENID: Final = "Signing in by OpenID Connect"
_TRACING: Final = "Traces"

Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"Settings in TOML; else RESTANTE_CONFIG, else {FILE_NAME} here if there is one.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where everything is kept.  [default: ./restante-data]"),
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="postgresql://USER@HOST/DATABASE, for many nodes.  [default: a file in DIR]",
        show_default=False,
        rich_help_panel=_NODES,
    ),
]
Waker = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="What wakes other nodes: redis://, rediss://, nats:// or postgresql://.  [default: the store]",
        show_default=False,
        rich_help_panel=_NODES,
    ),
]
Listen = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where to serve; port 0 takes a free one.  [default: 127.0.0.1:7070]",
    ),
]
AdminListen = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where /healthz, /readyz and /metrics are.  [default: 127.0.0.1:7071]",
    ),
]
GrpcListen = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where to serve gRPC; port 0 takes a free one.  [default: nowhere]",
        show_default=False,
    ),
]
GrpcAdminListen = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where gRPC's health and reflection are.  [default: nowhere]",
        show_default=False,
    ),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Speak https: the certificate with its chain, in PEM. SIGHUP reads it again.",
        rich_help_panel=_TLS,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The certificate's key, in PEM.", rich_help_panel=_TLS),
]
TlsClientAuthority = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Clients may show certificates that are signed by one of these, in PEM.",
        rich_help_panel=_TLS,
    ),
]
TlsClientRequired = Annotated[
    bool | None,
    typer.Option(
        "--tls-client-required",
        help="Let nobody in who shows none.",
        rich_help_panel=_TLS,
    ),
]
TrustedProxies = Annotated[
    str | None,
    typer.Option(
        metavar="NETWORKS",
        help="Whose X-Forwarded-* and Client-Cert headers are believed; with commas between.",
        rich_help_panel=_TLS,
    ),
]
LogLevel = Annotated[
    str | None, typer.Option(help="debug, info, warning or error.  [default: info]")
]
LogFormat = Annotated[str | None, typer.Option(help="console or json.  [default: console]")]
IdempotencyRetentionSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How long an idempotency key is remembered.  [default: 604800]",
        rich_help_panel=_LIMITS,
    ),
]
IdempotencyKeysPerPrincipal = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How many requests with keys are remembered of one principal.  [default: 100000]",
        rich_help_panel=_LIMITS,
    ),
]
UnknownRequests = Annotated[
    str | None,
    typer.Option(
        help="The repeat of a request in which a server crashed: refuse or run_again.  [default: refuse]",
        rich_help_panel=_LIMITS,
    ),
]
ActRetentionSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How long it is kept who did what.  [default: 31536000, a year]",
        show_default=False,
        rich_help_panel=_LIMITS,
    ),
]
RetentionIntervalSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How often what is past its retention is deleted.  [default: 60]",
        rich_help_panel=_LIMITS,
    ),
]
PollIntervalSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How often to look for work that nobody told of.  [default: 15]",
        rich_help_panel=_LIMITS,
    ),
]
ReserveBytes = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Disk kept free of new notifications.  [default: 67108864]",
        rich_help_panel=_LIMITS,
    ),
]
ConnectionsPerPrincipal = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How many connections one client or publisher may keep open.  [default: 1000]",
        rich_help_panel=_LIMITS,
    ),
]
ClientRequestsPerSecond = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How often one client may ask this node; 0: no limit.  [default: 5000]",
        rich_help_panel=_LIMITS,
    ),
]
NodeName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What this node is called in lists.  [default: the machine's name]",
        show_default=False,
        rich_help_panel=_NODES,
    ),
]
DrainSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How long a stop leaves balancers to notice that it is not ready.  [default: 0]",
        rich_help_panel=_NODES,
    ),
]
ShutdownSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How long a stop waits for answers under way.  [default: 10]",
        rich_help_panel=_LIMITS,
    ),
]
SecretsKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The keys that seal webhooks' secrets.  [default: DIR/secrets.key, made at first start]",
        rich_help_panel=_WEBHOOKS,
    ),
]
LedgerKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The keys that sign heads of the log of receipts.  [default: DIR/ledger.key, made at first start]",
        rich_help_panel=_LEDGER,
    ),
]
LedgerHeadSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="How often a head is kept for good, and sent to the three below.  [default: 600]",
        rich_help_panel=_LEDGER,
    ),
]
LedgerHeadFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Append heads to this file, best on another machine's disk.",
        rich_help_panel=_LEDGER,
    ),
]
LedgerHeadUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="POST heads to this address.", rich_help_panel=_LEDGER),
]
LedgerHeadQueue = Annotated[
    str | None,
    typer.Option(metavar="QUEUE", help="Publish heads to this queue.", rich_help_panel=_LEDGER),
]
WebhookAllow = Annotated[
    str | None,
    typer.Option(
        metavar="CIDR,...",
        help="Networks that webhooks may go to although they are not the Internet's.",
        rich_help_panel=_WEBHOOKS,
    ),
]
AlertDepth = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Alert where so many wait in a queue; 0: never.  [default: 0]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertOldestAgeSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Alert where the oldest has waited so long; 0: never.  [default: 0]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertSilenceSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Alert where a client has neither asked nor signed for so long; 0: never.  [default: 0]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertDead = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Alert where a queue has so many dead letters; 0: never.  [default: 0]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertErrorRate = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="Alert where such a share of the attempts fails, 0.1 for 10 %; 0: never.  [default: 0]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertWebhookUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where alerts are posted. RESTANTE_ALERT_WEBHOOK_SECRET signs them.  [default: nowhere]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertMailTo = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS,...",
        help="Whom alerts are mailed to; takes the two below.  [default: nobody]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertMailFrom = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Whom those mails are from.",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
SmtpUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The mail server: smtp:// (STARTTLS), smtps:// or smtp+plain://.",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
AlertQueue = Annotated[
    str | None,
    typer.Option(
        metavar="QUEUE",
        help="The queue of yours that alerts are published to.  [default: none]",
        show_default=False,
        rich_help_panel=_ALERTS,
    ),
]
OpenidIssuer = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="By whom operators sign in to their page; takes the two below.  [default: nobody]",
        show_default=False,
        rich_help_panel=_OPENID,
    ),
]
OpenidClientId = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="What this service is called there. RESTANTE_OPENID_CLIENT_SECRET is its secret.",
        show_default=False,
        rich_help_panel=_OPENID,
    ),
]
OpenidPageUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where browsers find the page.",
        show_default=False,
        rich_help_panel=_OPENID,
    ),
]
OpenidRoleClaim = Annotated[
    str | None,
    typer.Option(
        metavar="CLAIM",
        help="The claim that says who may do what.  [default: groups]",
        show_default=False,
        rich_help_panel=_OPENID,
    ),
]
OpenidViewer = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE,...",
        help="Values of it that make a viewer.",
        show_default=False,
        rich_help_panel=_OPENID,
    ),
]
OpenidOperator = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE,...",
        help="Values of it that make an operator.",
        show_default=False,
        rich_help_panel=_OPENID,
    ),
]
OpenidAdmin = Annotated[
    str | None,
    typer.Option(
        metavar="VALUE,...",
        help="Values of it that make an admin.",
        show_default=False,
        rich_help_panel=_OPENID,
    ),
]
TracingEndpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Make traces, and send them there over OTLP/HTTP: http://HOST:4318/v1/traces.  [default: none]",
        show_default=False,
        rich_help_panel=_TRACING,
    ),
]
TracingSampleRatio = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="The share of the traces that begin here that are made, 0 to 1.  [default: 1]",
        show_default=False,
        rich_help_panel=_TRACING,
    ),
]
