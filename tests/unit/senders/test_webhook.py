"""Heads of the log, posted to an address: what it is sent, and every way in which it does not take it."""

import asyncio
import contextlib
import functools
import socket
import ssl

import aiohttp
import pytest
from tests.certificates import Authority

from restante.senders import webhook
from restante.senders.webhook import posting_heads

NOTE = "receipts.example\n3\nCsUY\n2026-11-30T12:00:00.000Z\n\n\u2014 receipts.example Az3g\n"
AGENT = "Restante/test"


class Target:
    """A server that answers every call with the same bytes, hangs up without any, or (None) never says anything."""

    def __init__(self, answer):
        self.calls = []
        self._answer = answer
        self._over = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/heads"
        return self

    async def __aexit__(self, *_):
        self._over.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:-2])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        self.calls.append((head[0], headers, body))
        if self._answer is None:
            await self._over.wait()
        else:
            writer.write(self._answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def status(code, *headers):
    lines = (f"HTTP/1.1 {code} Whatever", "content-length: 0", *headers, "", "")
    return "\r\n".join(lines).encode()


async def post(target):
    async with posting_heads(target.url, AGENT) as tell:
        await tell(NOTE)


@pytest.mark.parametrize("code", [200, 202, 204])
async def test_it_is_sent_as_the_text_it_is(code):
    async with Target(status(code)) as target:
        await post(target)
    ((line, headers, body),) = target.calls
    assert line == "POST /heads HTTP/1.1"
    assert body == NOTE.encode()
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["user-agent"] == AGENT


@pytest.mark.parametrize("code", [400, 500, 503])
async def test_what_is_refused_was_not_taken(code):
    async with Target(status(code)) as target:
        with pytest.raises(OSError, match=f"^HTTP {code}$"):
            await post(target)
    assert len(target.calls) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_nobody_is_followed(code):
    async with Target(status(200)) as elsewhere:
        async with Target(status(code, f"location: {elsewhere.url}")) as target:
            with pytest.raises(OSError, match=f"^HTTP {code}$"):
                await post(target)
        assert elsewhere.calls == []


async def test_whoever_hangs_up_has_not_taken_it_and_its_address_is_not_told():
    async with Target(b"") as target:
        with pytest.raises(OSError, match=r"^ServerDisconnectedError$"):
            await post(target)


async def test_nobody_listens(unused_tcp_port):
    why = rf"^ClientConnectorError: Connect call failed \('127\.0\.0\.1', {unused_tcp_port}\)$"
    async with posting_heads(f"http://127.0.0.1:{unused_tcp_port}/?token=x", AGENT) as tell:
        with pytest.raises(OSError, match=why):
            await tell(NOTE)


class Nobody(aiohttp.abc.AbstractResolver):
    """Knows no name, whatever the network here would say."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        raise socket.gaierror(socket.EAI_NONAME, "nobody of that name")

    async def close(self):
        pass


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "http://user:open-sesame@nobody.invalid/?token=x",
            "ClientConnectorDNSError: nobody of that name",
        ),
        ("ftp://nobody.invalid/?token=x", "NonHttpUrlClientError"),
    ],
)
async def test_a_name_that_is_none_and_an_address_that_is_none(monkeypatch, url, why):
    connector = functools.partial(aiohttp.TCPConnector, resolver=Nobody())
    monkeypatch.setattr(aiohttp, "TCPConnector", connector)
    async with posting_heads(url, AGENT) as tell:
        with pytest.raises(OSError, match=rf"^{why}$"):
            await tell(NOTE)


async def test_a_certificate_of_nobody_that_is_trusted(tmp_path):
    issued = Authority(tmp_path).for_server("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/?token=x"
    async with server, posting_heads(url, AGENT) as tell:
        with pytest.raises(OSError, match=r"CertificateError: .*verify failed") as caught:
            await tell(NOTE)
    assert "token" not in str(caught.value)


async def test_whoever_says_nothing_is_left(monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.05)
    async with Target(None) as target:
        with pytest.raises(OSError, match=r"^timed out after 0\.05 s$"):
            await post(target)


async def test_an_answer_without_an_end_is_not_read():
    endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with Target(endless) as target:
        await post(target)
