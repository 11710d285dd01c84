"""What is not answered as a request: heads too large or never finished, offers of other protocols, half requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from tests.unit.http.wire import Wire, settled
from uvicorn.server import ServerState

from restante.http import protocol
from restante.http.protocol import (
    HEAD_BYTES,
    HEAD_SECONDS,
    LEFTOVER_BYTES,
    REQUEST_SECONDS,
    Protocol,
)

GET = b"GET /path HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with method, path and body. ``/stay`` begins an answer and does not end it."""
    body = b""
    more = scope["path"] not in {"/early", "/stay"}
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    answer = f"{scope['method']} {scope['path']} {body.decode()}".encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(answer))],
        }
    )
    while scope["path"] == "/stay":
        if (await receive())["type"] == "http.disconnect":
            return
    await send({"type": "http.response.body", "body": answer})


class Connection:
    """One connection, without a socket."""

    def __init__(self) -> None:
        config = uvicorn.Config(
            echo, lifespan="off", access_log=False, log_config=None, server_header=False
        )
        self.wire = Wire()
        self.protocol = Protocol(config, ServerState(), {})
        self.protocol.connection_made(self.wire)

    async def sends(self, *pieces: bytes) -> bytes:
        """Let the pieces come in, one after the other; what has been answered since."""
        before = len(self.wire.written)
        for piece in pieces:
            self.protocol.data_received(piece)
            await settled()
        return self.wire.written[before:]

    def after(self, seconds: float) -> bytes:
        """What the watch over slow connections finds after so many seconds."""
        before = len(self.wire.written)
        self.protocol.overdue(self.protocol.loop.time() + seconds)
        return self.wire.written[before:]


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    connection = Connection()
    yield connection
    connection.protocol.connection_lost(None)
    await settled()


def head(padding: int = 0, line: bytes = b"GET /path HTTP/1.1") -> bytes:
    return line + b"\r\nHost: x\r\nPadding: " + b"p" * padding + b"\r\n\r\n"


def is_refused(wire: Wire, answer: bytes, status: int, code: str) -> bool:
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"application/problem+json" in answer
    assert f'"code":"{code}"'.encode() in answer
    assert b"connection: close" in answer
    return wire.closed


# -- heads --------------------------------------------------------------------------------------


async def test_a_request_is_answered(connection):
    answer = await connection.sends(GET)
    assert answer.endswith(b"GET /path ")
    assert not connection.wire.closed


async def test_a_head_too_large_is_refused_in_one_packet(connection):
    answer = await connection.sends(head(HEAD_BYTES))
    assert is_refused(connection.wire, answer, 431, "head_too_large")


async def test_a_head_too_large_is_refused_in_many_small_packets(connection):
    whole = head(HEAD_BYTES * 2)
    answer = b""
    sent = 0
    while not answer:
        answer = await connection.sends(whole[sent : sent + 1_000])
        sent += 1_000
    assert sent <= HEAD_BYTES + 2_000, "not when it is over, but when it is too much"
    assert is_refused(connection.wire, answer, 431, "head_too_large")


async def test_a_url_without_end_is_a_head_too_large(connection):
    answer = await connection.sends(b"GET /", *[b"x" * 1_000] * 34)
    assert is_refused(connection.wire, answer, 431, "head_too_large")


async def test_many_small_headers_are_a_head_too_large_together(connection):
    lines = b"".join(b"H%d: v\r\n" % number for number in range(4_000))
    answer = await connection.sends(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert is_refused(connection.wire, answer, 431, "head_too_large")


async def test_a_head_within_its_limit_is_taken_however_it_comes(connection):
    whole = head(HEAD_BYTES - 1_000)
    pieces = [whole[start : start + 700] for start in range(0, len(whole), 700)]
    for _ in range(3):
        # Nothing is left over from the one before.
        assert (await connection.sends(*pieces)).endswith(b"GET /path ")
        assert (await connection.sends(whole)).endswith(b"GET /path ")


async def test_a_body_does_not_count_for_the_head(connection):
    size = HEAD_BYTES * 3
    start = b"POST /path HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    pieces = [b"b" * 1_024] * (size // 1_024)
    assert (await connection.sends(start, *pieces)).endswith(b"POST /path " + b"b" * size)
    assert (await connection.sends(GET)).endswith(b"GET /path ")


async def test_what_is_no_http_is_refused(connection):
    answer = await connection.sends(b"\x16\x03\x01\x02\x00 hello, is this TLS?\r\n\r\n")
    assert is_refused(connection.wire, answer, 400, "malformed")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: -1",
        b"Transfer-Encoding: gzip",
    ],
)
async def test_who_leaves_in_doubt_where_a_body_ends_is_refused(connection, headers):
    """Request smuggling (RFC 9112, section 11.2)."""
    answer = await connection.sends(b"POST / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\nabc")
    assert is_refused(connection.wire, answer, 400, "malformed")


# -- time ---------------------------------------------------------------------------------------


async def test_who_connects_and_says_nothing_is_disconnected(connection):
    assert connection.after(HEAD_SECONDS - 1) == b""
    answer = connection.after(HEAD_SECONDS + 1)
    assert is_refused(connection.wire, answer, 408, "too_slow")


async def test_a_head_that_never_ends_is_refused(connection):
    assert await connection.sends(GET[:-2]) == b""
    assert connection.after(HEAD_SECONDS - 1) == b""
    answer = connection.after(HEAD_SECONDS + 1)
    assert is_refused(connection.wire, answer, 408, "too_slow")


async def test_more_of_a_head_gives_no_more_time(connection, monkeypatch):
    """A byte now and then keeps no connection open."""
    started = connection.protocol.loop.time()
    await connection.sends(GET[:5])
    later = started + HEAD_SECONDS - 1
    monkeypatch.setattr(connection.protocol.loop, "time", lambda: later)
    await connection.sends(GET[5:-2])
    monkeypatch.undo()
    answer = connection.after(HEAD_SECONDS + 1)
    assert is_refused(connection.wire, answer, 408, "too_slow")


async def test_a_body_that_never_comes_is_refused_after_its_own_time(connection):
    start = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
    assert await connection.sends(start) == b""
    assert connection.after(HEAD_SECONDS + 1) == b""
    answer = connection.after(REQUEST_SECONDS + 1)
    assert is_refused(connection.wire, answer, 408, "too_slow")


async def test_who_waits_for_an_answer_or_between_requests_is_left_alone(connection):
    await connection.sends(GET)
    assert connection.after(10 * REQUEST_SECONDS) == b""
    assert (await connection.sends(GET)).endswith(b"GET /path ")
    await connection.sends(GET.replace(b"/path", b"/stay"))
    assert connection.after(10 * REQUEST_SECONDS) == b""
    assert not connection.wire.closed


async def test_a_later_head_has_its_time_too(connection):
    await connection.sends(GET)
    await connection.sends(GET[:5])
    answer = connection.after(HEAD_SECONDS + 1)
    assert is_refused(connection.wire, answer, 408, "too_slow")


async def test_nothing_is_said_in_the_middle_of_an_answer(connection):
    await connection.sends(GET.replace(b"/path", b"/stay"))
    said = connection.wire.written
    await connection.sends(b"this is no request\r\n\r\n")
    assert connection.wire.aborted
    assert connection.wire.written == said


# -- one after the other ------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_their_order(connection):
    names = [b"/a", b"/b", b"/c"]
    answer = await connection.sends(b"".join(GET.replace(b"/path", name) for name in names))
    await settled()
    answer = connection.wire.written
    places = [answer.index(b"GET " + name) for name in names]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


async def test_a_pipelined_request_that_is_half_there_waits_for_its_rest(connection):
    answer = await connection.sends(GET + GET[:10])
    assert answer.count(b"200 OK") == 1
    assert (await connection.sends(GET[10:])).count(b"200 OK") == 1


async def test_an_answer_before_the_body_does_not_end_the_connection(connection):
    start = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    assert b"POST /early" in await connection.sends(start)
    assert await connection.sends(b"body") == b""
    assert (await connection.sends(GET)).endswith(b"GET /path ")


async def test_connection_close_is_heeded(connection):
    answer = await connection.sends(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answer.endswith(b"GET /path ")
    assert connection.wire.closed


# -- 100-continue -------------------------------------------------------------------------------


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(connection):
    start = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    assert (await connection.sends(start)).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await connection.sends(b"body")).endswith(b"POST / body")


async def test_a_body_that_is_not_wanted_is_not_asked_for(connection):
    start = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    answer = await connection.sends(start)
    assert b"100 Continue" not in answer
    assert answer.endswith(b"POST /early ")


# -- other protocols ----------------------------------------------------------------------------

OFFER = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
)
BODY = b"POST /path HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Content-Length: 4\r\n\r\nbody"
CHUNKED = (
    b"POST /path HTTP/1.1\r\nHost: x\r\n"
    + OFFER
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("request_", [BODY, CHUNKED], ids=["length", "chunked"])
async def test_an_offer_of_h2c_is_passed_over(request_):
    """As Java's HttpClient makes it with its first request, body and all; wherever the packets are cut."""
    for cut in range(1, len(request_)):
        connection = Connection()
        pieces = [request_[:cut], request_[cut:]]
        assert (await connection.sends(*pieces)).endswith(b"POST /path body"), cut
        assert (await connection.sends(GET)).endswith(b"GET /path "), cut
        assert connection.after(REQUEST_SECONDS * 2) == b""
        assert not connection.wire.closed
        connection.protocol.connection_lost(None)


async def test_an_offer_without_a_body_is_passed_over_with_what_follows(connection):
    offer = b"GET /path HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n"
    await connection.sends(offer + GET + offer)
    await settled()
    assert connection.wire.written.count(b"200 OK") == 3


async def test_an_offer_made_with_every_request_is_passed_over_each_time(connection):
    for _ in range(3):
        assert (await connection.sends(BODY)).endswith(b"POST /path body")


async def test_an_offer_with_connection_close_ends_the_connection(connection):
    request = BODY.replace(b"Connection: Upgrade,", b"Connection: close, Upgrade,")
    assert (await connection.sends(request)).endswith(b"POST /path body")
    assert connection.wire.closed


async def test_a_body_that_is_offered_h2c_and_waits_is_asked_for(connection):
    start = BODY.removesuffix(b"body").replace(b"Host", b"Expect: 100-continue\r\nHost")
    assert (await connection.sends(start)).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await connection.sends(b"body")).endswith(b"POST /path body")


async def test_an_offer_whose_head_is_too_large_is_refused(connection):
    request = BODY.replace(b"Host: x", b"Host: x\r\nPadding: " + b"p" * HEAD_BYTES)
    answer = await connection.sends(request)
    assert is_refused(connection.wire, answer, 431, "head_too_large")


# -- who does not read --------------------------------------------------------------------------


async def test_who_does_not_take_what_waits_for_it_is_cut_off(connection, monkeypatch):
    """Not closed: that would wait until everything is taken."""
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.0)
    connection.protocol.pause_writing()
    await settled()
    assert connection.wire.aborted


async def test_who_takes_it_in_time_is_not(connection, monkeypatch):
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.0)
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    await settled()
    assert not connection.wire.closed


# -- what comes after the answer ----------------------------------------------------------------


async def test_who_announces_more_than_is_thrown_away_is_let_go_with_the_answer(connection):
    length = b"Content-Length: %d\r\n\r\n"
    answer = await connection.sends(
        b"POST /early HTTP/1.1\r\nHost: x\r\n" + length % LEFTOVER_BYTES
    )
    assert answer.endswith(b"POST /early ")
    assert not connection.wire.closed
    another = Connection()
    await another.sends(b"POST /early HTTP/1.1\r\nHost: x\r\n" + length % (LEFTOVER_BYTES + 1))
    assert another.wire.closed
    another.protocol.connection_lost(None)
    await settled()


async def test_who_has_been_answered_and_never_sends_the_rest_is_told_nothing_more(connection):
    await connection.sends(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    assert connection.after(REQUEST_SECONDS + 1) == b""
    assert connection.wire.closed


@pytest.mark.parametrize("more", [b"", b"Upgrade: websocket\r\nConnection: upgrade\r\n"])
async def test_nobody_is_connected_to(connection, more):
    answer = await connection.sends(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n" + more + b"\r\n")
    assert is_refused(connection.wire, answer, 405, "method_not_allowed")


async def test_a_head_too_large_that_offers_a_websocket_is_refused_alike(connection):
    offer = b"GET /path HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade"
    answer = await connection.sends(head(HEAD_BYTES, offer))
    assert is_refused(connection.wire, answer, 431, "head_too_large")
