"""Where a call goes: to addresses that were checked, whatever a name says the next time it is asked."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from typing import Any

import dnslib  # type: ignore[import-untyped]  # it has none
import pytest
import trustme
from tests.e2e.hooks import Rogue, answers, rogue
from tests.unit.engine.house import turns

from restante.addresses import parse_networks
from restante.transports.webhook import resolving
from restante.transports.webhook.calling import HttpCaller
from restante.transports.webhook.calls import Answered, Call, Failed
from restante.transports.webhook.resolving import SystemLookup

OUTSIDE, INSIDE = "127.0.0.2", "127.0.0.1"
ALLOWED = parse_networks([f"{OUTSIDE}/32"])
"""In these tests 127.0.0.2 plays the Internet, and 127.0.0.1 what is not to be reached."""
FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class RebindingServer(asyncio.DatagramProtocol):
    """A DNS server that gives another answer each time: ``answers`` in turn, the last for ever."""

    def __init__(self, answers: list[list[str]]) -> None:
        self.asked = 0
        self._answers = answers

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = dnslib.DNSRecord.parse(data)
        reply = query.reply()
        for text in self._answers[min(self.asked, len(self._answers) - 1)]:
            kind = dnslib.AAAA(text) if ":" in text else dnslib.A(text)
            code = dnslib.QTYPE.AAAA if ":" in text else dnslib.QTYPE.A
            # Nobody is to remember it.
            reply.add_answer(dnslib.RR(query.q.qname, code, rdata=kind, ttl=0))
        self.asked += 1
        self._transport.sendto(reply.pack(), address)


class Asking(asyncio.DatagramProtocol):
    def __init__(self, query: bytes) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._query = query

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        transport.sendto(self._query)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.answer.set_result(data)


class Names:
    """A resolver that asks a DNS server over UDP, each time anew, in the place of the system's."""

    def __init__(self, *answers: list[str]) -> None:
        self.server = RebindingServer(list(answers))

    async def __aenter__(self) -> Names:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self.server, local_addr=("127.0.0.1", 0)
        )
        self._address: tuple[str, int] = self._transport.get_extra_info("sockname")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    async def __call__(self, host: str, port: int) -> list[str]:
        query = dnslib.DNSRecord.question(host).pack()
        loop = asyncio.get_running_loop()
        transport, asking = await loop.create_datagram_endpoint(
            lambda: Asking(query), remote_addr=self._address
        )
        try:
            reply = dnslib.DNSRecord.parse(await asking.answer)
        finally:
            transport.close()
        return [str(record.rdata) for record in reply.rr]


@pytest.fixture
async def inside_and_outside() -> AsyncIterator[tuple[Rogue, Rogue, int]]:
    """Two listeners on one port, so that only the address tells them apart."""
    async with rogue(answers(FINE)) as (inside, url):
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        async with rogue(answers(FINE), host=OUTSIDE, port=port) as (outside, _):
            yield inside, outside, port


def call(url: str, **fields: object) -> Call:
    values = {"headers": {}, "body": b"x", "timeout_seconds": 5.0}
    return Call(url=url, **{**values, **fields})  # type: ignore[arg-type]


async def test_a_name_that_rebinds_reaches_nothing_inside(
    inside_and_outside: tuple[Rogue, Rogue, int],
) -> None:
    inside, outside, port = inside_and_outside
    async with (
        Names([OUTSIDE], [INSIDE]) as names,
        HttpCaller(ALLOWED, "Restante", lookup=names) as caller,
    ):
        url = f"http://rebinds.example:{port}/"
        first = await caller.call(call(url))
        assert isinstance(first, Answered)
        assert (first.status, first.body) == (200, b"ok")
        for _ in range(3):
            assert await caller.call(call(url)) == Failed("address not allowed")
    assert names.server.asked == 4, "asked each time"
    assert (outside.connections, inside.connections) == (1, 0)


async def test_what_was_checked_is_what_is_connected_to(
    inside_and_outside: tuple[Rogue, Rogue, int],
) -> None:
    """There is no second look between the check and the connection, for an answer to change in."""
    inside, outside, port = inside_and_outside
    async with Names(*[[OUTSIDE], [INSIDE]] * 20) as names:
        for _ in range(20):
            async with HttpCaller(ALLOWED, "Restante", lookup=names) as caller:
                await caller.call(call(f"http://flips.example:{port}/"))
    assert names.server.asked == 20
    assert (outside.connections, inside.connections) == (10, 0)


@pytest.mark.parametrize(
    "found", [[OUTSIDE, INSIDE], [INSIDE, OUTSIDE], [OUTSIDE, "10.0.0.1"], [OUTSIDE, "::1"]]
)
async def test_one_refused_address_refuses_the_name(
    inside_and_outside: tuple[Rogue, Rogue, int], found: list[str]
) -> None:
    inside, outside, port = inside_and_outside
    async with (
        Names(found) as names,
        HttpCaller(ALLOWED, "Restante", lookup=names) as caller,
    ):
        answer = await caller.call(call(f"http://mixed.example:{port}/"))
    assert answer == Failed("address not allowed")
    assert (outside.connections, inside.connections) == (0, 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    [INSIDE, "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "10.0.0.1"],
)
async def test_an_address_in_the_url_itself_is_checked_too(
    inside_and_outside: tuple[Rogue, Rogue, int], scheme: str, host: str
) -> None:
    inside, _, port = inside_and_outside
    async with HttpCaller(ALLOWED, "Restante") as caller:
        answer = await caller.call(call(f"{scheme}://{host}:{port}/"))
    assert answer == Failed("address not allowed")
    assert inside.connections == 0


async def test_http_goes_only_where_the_operator_allows() -> None:
    """The public Internet is called over TLS or not at all."""
    async with (
        Names(["192.0.2.1"], ["8.8.8.8"]) as names,
        HttpCaller((), "Restante", lookup=names) as caller,
    ):
        for host in ("documentation.example", "public.example", "8.8.4.4"):
            assert await caller.call(call(f"http://{host}/")) == Failed("address not allowed")


async def test_names_and_odd_spellings_of_this_machine() -> None:
    async with (
        rogue(answers(FINE)) as (inside, url),
        HttpCaller((), "Restante", lookup=SystemLookup()) as caller,
    ):
        port = url.rsplit(":", 1)[1].split("/")[0]
        assert await caller.call(call(f"https://localhost:{port}/")) == Failed(
            "address not allowed"
        )
        for host in ("2130706433", "127.1", "0177.0.0.1", "0x7f.1"):
            answer = await caller.call(call(f"https://{host}:{port}/"))
            assert isinstance(answer, Failed)
        assert inside.connections == 0


async def test_names_that_are_slow_take_room_once_and_nobody_waits_for_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One name is looked up once at a time; where there is no room for another, that is told at once, and apart."""
    asked: list[str] = []
    go_on = threading.Event()

    def slow(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        go_on.wait(20)
        return [(2, 1, 6, "", ("192.0.2.1", 443))]

    monkeypatch.setattr(resolving, "LOOKUPS", 2)
    monkeypatch.setattr("socket.getaddrinfo", slow)
    async with HttpCaller((), "Restante", lookup=SystemLookup()) as caller:
        calls = [
            asyncio.create_task(caller.call(call(f"https://{host}.example/", timeout_seconds=19)))
            for host in ("a", "a", "a", "b")
        ]
        # The look-ups of these begin before a third name is asked for.
        await turns()
        refused = await caller.call(call("https://c.example/"))
        assert isinstance(refused, Failed)
        assert not refused.sent
        # Who has given up leaves no room behind that is lost.
        calls.pop(0).cancel()
        go_on.set()
        assert {await one for one in calls} == {Failed("address not allowed")}
        assert sorted(asked) == ["a.example", "b.example"]
        assert await caller.call(call("https://c.example/")) == Failed("address not allowed")


async def test_no_answer_from_the_name_server_is_a_time_out() -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.get_running_loop().create_future()
        return []

    async with HttpCaller((), "Restante", lookup=silent) as caller:
        answer = await caller.call(call("https://slow.example/", timeout_seconds=0.05))
    assert answer == Failed("timed out after 0.05 s")


async def test_the_environment_s_proxies_are_passed_by(
    inside_and_outside: tuple[Rogue, Rogue, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside, port = inside_and_outside
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{INSIDE}:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    async with HttpCaller(ALLOWED, "Restante") as caller:
        answer = await caller.call(call(f"http://{OUTSIDE}:{port}/"))
    assert isinstance(answer, Answered)
    assert (outside.connections, inside.connections) == (1, 0)


async def test_over_tls_to_the_checked_address_with_the_name_kept() -> None:
    """SNI, Host and the certificate are the name's, though the connection is to an address."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hooks.example").configure_cert(server)
    authority.configure_trust(client)
    asked_for: list[str] = []
    heads: list[bytes] = []

    def named(_: ssl.SSLObject, name: str, __: ssl.SSLContext) -> None:
        asked_for.append(name)

    server.sni_callback = named

    async def conduct(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(FINE)
        await reader.read()

    async with (
        rogue(conduct, host=OUTSIDE, tls=server) as (_, url),
        Names([OUTSIDE]) as names,
        HttpCaller(ALLOWED, "Restante", lookup=names, tls=client) as caller,
    ):
        port = url.rsplit(":", 1)[1].split("/")[0]
        answer = await caller.call(call(f"https://hooks.example:{port}/in"))
        assert isinstance(answer, Answered), answer
        other = await caller.call(call(f"https://other.example:{port}/in"))
    assert asked_for == ["hooks.example", "other.example"]
    assert f"Host: hooks.example:{port}".encode() in heads[0]
    assert other == Failed("certificate not trusted")
    assert len(heads) == 1, "nothing is sent to whom the certificate is not for"


async def test_cookies_are_not_kept() -> None:
    heads: list[bytes] = []

    async def conduct(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(FINE.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b\r\n\r\n"))
        await reader.read()

    async with (
        rogue(conduct, host=OUTSIDE) as (_, url),
        HttpCaller(ALLOWED, "Restante/x") as caller,
    ):
        port = url.rsplit(":", 1)[1].split("/")[0]
        for _ in range(2):
            await caller.call(call(f"http://{OUTSIDE}:{port}/"))
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()
    assert b"user-agent: restante/x" in heads[1].lower()


async def test_attributes_beyond_ascii_go_as_utf_8() -> None:
    heads: list[bytes] = []

    async def conduct(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(FINE)
        await reader.read()

    async with (
        rogue(conduct, host=OUTSIDE) as (_, url),
        HttpCaller(ALLOWED, "Restante") as caller,
    ):
        port = url.rsplit(":", 1)[1].split("/")[0]
        headers = {"restante-attribute-place": "Bodø"}
        await caller.call(call(f"http://{OUTSIDE}:{port}/", headers=headers))
    assert "restante-attribute-place: Bodø".encode() in heads[0]
