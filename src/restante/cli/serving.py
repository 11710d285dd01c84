"""``restante serve``: the server as a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from restante.cli import flags
from restante.config import FILE_NAME, Config, load

if TYPE_CHECKING:
    from restante.app import Started


def serve(  # noqa: PLR0913, PLR0917  # one parameter for each flag
    config: flags.Config = None,
    data: flags.Data = None,
    store: flags.Store = None,
    waker: flags.Waker = None,
    listen: flags.Listen = None,
    admin_listen: flags.AdminListen = None,
    grpc_listen: flags.GrpcListen = None,
    grpc_admin_listen: flags.GrpcAdminListen = None,
    tls_certificate: flags.TlsCertificate = None,
    tls_key: flags.TlsKey = None,
    tls_client_authority: flags.TlsClientAuthority = None,
    tls_client_required: flags.TlsClientRequired = None,
    trusted_proxies: flags.TrustedProxies = None,
    log_level: flags.LogLevel = None,
    log_format: flags.LogFormat = None,
    idempotency_retention_seconds: flags.IdempotencyRetentionSeconds = None,
    idempotency_keys_per_principal: flags.IdempotencyKeysPerPrincipal = None,
    unknown_requests: flags.UnknownRequests = None,
    act_retention_seconds: flags.ActRetentionSeconds = None,
    retention_interval_seconds: flags.RetentionIntervalSeconds = None,
    poll_interval_seconds: flags.PollIntervalSeconds = None,
    reserve_bytes: flags.ReserveBytes = None,
    connections_per_principal: flags.ConnectionsPerPrincipal = None,
    client_requests_per_second: flags.ClientRequestsPerSecond = None,
    node_name: flags.NodeName = None,
    drain_seconds: flags.DrainSeconds = None,
    shutdown_seconds: flags.ShutdownSeconds = None,
    secrets_key_file: flags.SecretsKeyFile = None,
    ledger_key_file: flags.LedgerKeyFile = None,
    ledger_head_seconds: flags.LedgerHeadSeconds = None,
    ledger_head_file: flags.LedgerHeadFile = None,
    ledger_head_url: flags.LedgerHeadUrl = None,
    ledger_head_queue: flags.LedgerHeadQueue = None,
    webhook_allow: flags.WebhookAllow = None,
    alert_depth: flags.AlertDepth = None,
    alert_oldest_age_seconds: flags.AlertOldestAgeSeconds = None,
    alert_silence_seconds: flags.AlertSilenceSeconds = None,
    alert_dead: flags.AlertDead = None,
    alert_error_rate: flags.AlertErrorRate = None,
    alert_webhook_url: flags.AlertWebhookUrl = None,
    alert_mail_to: flags.AlertMailTo = None,
    alert_mail_from: flags.AlertMailFrom = None,
    smtp_url: flags.SmtpUrl = None,
    alert_queue: flags.AlertQueue = None,
    openid_issuer: flags.OpenidIssuer = None,
    openid_client_id: flags.OpenidClientId = None,
    openid_page_url: flags.OpenidPageUrl = None,
    openid_role_claim: flags.OpenidRoleClaim = None,
    openid_viewer: flags.OpenidViewer = None,
    openid_operator: flags.OpenidOperator = None,
    openid_admin: flags.OpenidAdmin = None,
    tracing_endpoint: flags.TracingEndpoint = None,
    tracing_sample_ratio: flags.TracingSampleRatio = None,
) -> None:
    """Run the server until SIGTERM or SIGINT.

    Settings come from the file, from RESTANTE_* in the environment and from flags: a later one of these wins.
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
