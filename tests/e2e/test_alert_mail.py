"""Mail to another's server: over TLS or not at all, one message however often it is sent, and never for long."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from pathlib import Path

import pytest
from tests.certificates import Authority
from tests.e2e.hooks import Rogue
from tests.e2e.postmaster import PASSWORD, USER, Postmaster, postmaster

from restante.alerting import Alert, Message, Notice, Rule, bundle
from restante.mailing import MailServer
from restante.senders.mail import MailSender

SENDER = "restante@ops.test"
PEOPLE = ("ann@ops.test", "bob@ops.test")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def served(authority: Authority) -> ssl.SSLContext:
    """The mail server's side of TLS."""
    issued = authority.for_server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


@pytest.fixture
def trusted(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


def message(words: str = "acme has 12 dead letters (limit 1)") -> Message:
    alert = Alert(
        id="0199-1",
        queue="acme",
        owner="acme",
        rule=Rule.DEAD_LETTERS,
        value=12,
        limit=1,
        words=words,
        raised_at_ms=1_700_000_000_000,
    )
    notice = Notice(event="raised", at_ms=1_700_000_000_000, alert=alert)
    return bundle("0199-2", 1_700_000_000_500, [notice])


def sender(
    server: Postmaster | Rogue,
    port: int,
    scheme: str,
    tls: ssl.SSLContext | None = None,
    password: str = "",
) -> MailSender:
    user = USER if password else ""
    return MailSender(
        MailServer(scheme, "127.0.0.1", port, user, password), SENDER, PEOPLE, tls=tls
    )


@pytest.mark.parametrize(("scheme", "at_once"), [("smtp", False), ("smtps", True)])
async def test_it_is_delivered_over_tls_and_signed_in(
    scheme: str, at_once: bool, served: ssl.SSLContext, trusted: ssl.SSLContext
) -> None:
    async with postmaster(served, at_once=at_once, login=True) as office:
        post = sender(office, office.port, scheme, trusted, PASSWORD)
        assert await post.send(message()) is None
        envelope = await office.mails.get()
        assert office.logins == [USER]
        if not at_once:
            assert office.encrypted == [True]
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, list(PEOPLE))
    assert isinstance(envelope.content, bytes)
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert (mail["From"], mail["To"]) == (SENDER, ", ".join(PEOPLE))
    assert mail["Message-ID"] == "<0199-2@ops.test>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "acme has 12 dead letters" in mail["Subject"]
    assert isinstance(mail, email.message.EmailMessage)
    assert "acme has 12 dead letters (limit 1)" in mail.get_content()


async def test_in_the_clear_where_that_was_asked_for() -> None:
    async with postmaster() as office:
        assert await sender(office, office.port, "smtp+plain").send(message()) is None
        assert office.encrypted == [False]


async def test_a_server_without_tls_gets_neither_the_mail_nor_the_password() -> None:
    async with postmaster() as office:
        post = sender(office, office.port, "smtp", ssl.create_default_context(), PASSWORD)
        assert await post.send(message()) == "SMTPException"
        assert office.mails.empty()
        assert office.logins == []


@pytest.mark.parametrize(("scheme", "at_once"), [("smtp", False), ("smtps", True)])
async def test_a_server_that_nobody_vouches_for_gets_nothing(
    scheme: str, at_once: bool, served: ssl.SSLContext
) -> None:
    async with postmaster(served, at_once=at_once) as office:
        post = sender(office, office.port, scheme, ssl.create_default_context(), PASSWORD)
        assert await post.send(message()) is not None
        assert office.mails.empty()
        assert office.logins == []


async def test_what_the_server_says_is_told_by_its_code_alone(
    served: ssl.SSLContext, trusted: ssl.SSLContext
) -> None:
    async with postmaster(served, login=True) as office:
        wrong = sender(office, office.port, "smtp", trusted, "wrong")
        assert await wrong.send(message()) == "SMTP 535"
        right = sender(office, office.port, "smtp", trusted, PASSWORD)
        office.answer = "451 greylisted, and a secret"
        assert await right.send(message()) == "SMTP 451"
        office.answer = "250 OK"
        office.refused = {PEOPLE[0]}
        assert await right.send(message()) is None
        assert (await office.mails.get()).rcpt_tos == [PEOPLE[1]]
        office.refused = set(PEOPLE)
        assert await right.send(message()) == "recipients refused: SMTP 550"
    assert await right.send(message()) == "SMTPConnectError"


async def test_a_greeting_signs_in_and_sends_nothing(
    served: ssl.SSLContext, trusted: ssl.SSLContext
) -> None:
    async with postmaster(served, login=True) as office:
        assert await sender(office, office.port, "smtp", trusted, PASSWORD).greet() is None
        wrong = sender(office, office.port, "smtp", trusted, "wrong")
        assert await wrong.greet() == "SMTP 535"
        assert office.mails.empty()
    assert await wrong.greet() == "SMTPConnectError"


async def test_a_clients_words_end_no_header() -> None:
    async with postmaster() as office:
        words = "acme: last error: \r\nBcc: eve@evil.test\r\n.\r\nMAIL FROM:<eve@evil.test>"
        assert await sender(office, office.port, "smtp+plain").send(message(words)) is None
        envelope = await office.mails.get()
        assert envelope.rcpt_tos == list(PEOPLE)
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content)
        assert mail["Bcc"] is None
        assert office.mails.empty()


async def test_a_server_that_never_ends_what_it_says_is_hung_up_on() -> None:
    """Who sends has a time of its own, and when it is over leaves nothing behind, neither a thread nor a connection."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test\r\n")
        await reader.readline()
        writer.write(b"250-")
        await writer.drain()
        asked.set()
        await reader.read()
        left.set()

    rogue = Rogue(drip)
    port = await rogue.open()
    sending = asyncio.create_task(sender(rogue, port, "smtp+plain").send(message()))
    await asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await left.wait()
    await rogue.close()
