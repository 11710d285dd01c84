"""Alerts by mail, over SMTP (RFC 5321)."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Final

import aiosmtplib

from restante.alerting import Message
from restante.logs import get_logger
from restante.mailing import MailServer
from restante.wire import alert_messages

_log = get_logger(__name__)

STEP_SECONDS: Final = 10.0
"""How long the server may take for each of its answers."""


class MailSender:
    """``tls`` are the certificates that it trusts; None: the system's."""

    def __init__(
        self,
        server: MailServer,
        sender: str,
        recipients: Sequence[str],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._sender = sender
        self._recipients = tuple(recipients)
        self._tls = tls

    async def send(self, message: Message) -> str | None:
        return await self._with_server(self._mail(message))

    async def greet(self) -> str | None:
        """Connect and sign in as for a message, and send none; why it cannot be done, or None."""
        return await self._with_server(None)

    async def _with_server(self, mail: EmailMessage | None) -> str | None:
        client = self._client()
        refused: dict[str, aiosmtplib.SMTPResponse] = {}
        try:
            await client.connect()
            if mail is None:
                await client.ehlo()
            else:
                refused, _ = await client.send_message(
                    mail, sender=self._sender, recipients=self._recipients
                )
            with contextlib.suppress(aiosmtplib.SMTPException):
                # It has the mail, whatever it says now.
                await client.quit()
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = sorted({one.code for one in error.recipients})
            return f"recipients refused: SMTP {', '.join(map(str, codes))}"
        except aiosmtplib.SMTPResponseException as error:
            return f"SMTP {error.code}"
        except (aiosmtplib.SMTPException, OSError) as error:
            # Its class alone: a server's words may repeat what it was sent.
            return type(error).__name__
        finally:
            client.close()
        if refused:
            _log.warning("alerts.mail_refused", recipients=sorted(refused))
        return None

    def _client(self) -> aiosmtplib.SMTP:
        server = self._server
        in_the_clear = server.scheme == "smtp+plain"
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user or None,
            password=server.password or None,
            timeout=STEP_SECONDS,
            use_tls=server.scheme == "smtps",
            start_tls=server.scheme == "smtp",
            tls_context=None if in_the_clear else self._tls or ssl.create_default_context(),
        )

    def _mail(self, message: Message) -> EmailMessage:
        # This class folds and encodes; a header that held the end of a line it would refuse.
        mail = EmailMessage()
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._recipients)
        mail["Subject"] = alert_messages.subject(message)
        mail["Date"] = datetime.fromtimestamp(message.made_at_ms // 1_000, UTC)
        # The same each time it has to be sent, so that a mailbox can tell.
        mail["Message-ID"] = f"<{message.id}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: holiday notes do not answer
        mail.set_content(alert_messages.to_lines(message))
        return mail
