"""A mail server of others' making, aiosmtpd, in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "restante", "s:e/c@r%et"


class Postmaster:
    """Takes in what it is sent, but for ``refused`` addresses; counts the sessions that were encrypted."""

    def __init__(self) -> None:
        self.mails: asyncio.Queue[Envelope] = asyncio.Queue()
        self.encrypted: list[bool] = []
        self.logins: list[str] = []
        self.refused: set[str] = set()
        self.answer = "250 OK"
        self.port = 0

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if address in self.refused:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.answer.startswith("250"):
            self.encrypted.append(session.ssl is not None)
            self.mails.put_nowait(envelope)
        return self.answer

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(data.login.decode())
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)


@contextlib.asynccontextmanager
async def postmaster(
    tls: ssl.SSLContext | None = None, *, at_once: bool = False, login: bool = False
) -> AsyncIterator[Postmaster]:
    """With ``tls`` by STARTTLS, or ``at_once`` from the first byte."""
    one = Postmaster()

    def protocol() -> SMTP:
        return SMTP(
            one,
            hostname="mail.test",
            tls_context=None if at_once else tls,
            authenticator=one.authenticate,
            # Of TLS that was there before it, it knows nothing.
            auth_required=login and not at_once,
            auth_require_tls=not at_once,
        )

    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", 0, ssl=tls if at_once else None
    )
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await server.wait_closed()
