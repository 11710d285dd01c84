"""What the server itself calls: the provider that operators sign in at, and the mail server that alerts go to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from restante.app import openid_of
from restante.cli.doctor.findings import Case, Finding, failure, ok
from restante.clock import SystemClock
from restante.errors import OpenIdFailed
from restante.mailing import parse_server
from restante.senders.mail import MailSender

if TYPE_CHECKING:
    from restante.desk.openid.provider import Fetch

SECONDS: Final = 20.0


async def provider(case: Case, ask: Fetch | None = None) -> Finding | None:
    """Whether the OpenID provider says what it has to of itself, and gives out keys. ``ask``: instead of over HTTP."""
    openid = openid_of(case.config)
    if openid is None:
        return None
    try:
        from restante.desk.openid.provider import Provider, fetch
    except ModuleNotFoundError:
        return failure(
            "openid",
            "openid_issuer is set, and the operators' page is not installed",
            "pip install 'restante[dashboard]', or take the setting away",
        )
    try:
        async with asyncio.timeout(SECONDS):
            await Provider(openid, SystemClock(), ask or fetch).check()
    except (OpenIdFailed, TimeoutError) as error:
        why = error.detail if isinstance(error, OpenIdFailed) else f"no end within {SECONDS:.0f} s"
        return failure(
            "openid",
            f"{openid.issuer}: {why}",
            "openid_issuer is to be as the provider writes it, without the path of its configuration; accounts and"
            " administrators' keys open the page meanwhile",
        )
    return ok("openid", f"{openid.issuer} answers; register {openid.redirect_uri} there")


async def mail(case: Case) -> Finding | None:
    """Whether the mail server lets the service in. Nothing is sent."""
    config = case.config
    if config.smtp_url is None or config.alert_mail_from is None:
        return None
    server = parse_server(config.smtp_url)
    place = f"{server.host}:{server.port}"
    sender = MailSender(server, config.alert_mail_from, config.alert_mail_to)
    try:
        async with asyncio.timeout(SECONDS):
            why = await sender.greet()
    except TimeoutError:
        why = f"no answer within {SECONDS:.0f} s"
    if why is not None:
        return failure(
            "mail",
            f"{place} does not let the service in: {why}",
            "look at host, port, user and password in smtp_url; smtp:// takes STARTTLS, smtps:// TLS",
        )
    return ok("mail", f"{place} lets the service in")


CHECKS: Final = (provider, mail)
