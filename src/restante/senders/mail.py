"""Alerts by mail, over SMTP (RFC 5321)."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Final

import structlog

from restante.alerting import Message
from restante.mailing import MailServer
from restante.wire import alert_messages

_log = structlog.get_logger(__name__)

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
        # The library blocks; its thread goes on to its end, whoever stops waiting.
        return await asyncio.to_thread(self._send, self._mail(message))

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

    def _send(self, mail: EmailMessage) -> str | None:
        try:
            with self._connected() as smtp:
                if self._server.scheme == "smtp":
                    smtp.starttls(context=self._context())
                if self._server.user:
                    smtp.login(self._server.user, self._server.password)
                refused = smtp.send_message(mail, self._sender, self._recipients)
        except smtplib.SMTPResponseException as error:
            return f"SMTP {error.smtp_code}"
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            return f"recipients refused: SMTP {', '.join(map(str, codes))}"
        except (smtplib.SMTPException, OSError) as error:
            # Its class alone: a server's words may repeat what it was sent.
            return type(error).__name__
        if refused:
            _log.warning("alerts.mail_refused", recipients=sorted(refused))
        return None

    def _connected(self) -> smtplib.SMTP:
        host, port = self._server.host, self._server.port
        if self._server.scheme == "smtps":
            return smtplib.SMTP_SSL(host, port, timeout=STEP_SECONDS, context=self._context())
        return smtplib.SMTP(host, port, timeout=STEP_SECONDS)

    def _context(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context()
