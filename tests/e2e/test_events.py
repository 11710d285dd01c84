"""Server-sent events: what is asked, coming back, heartbeats, leaving; and the cookie by which a browser opens them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.recording import Event, Record

from restante.http.events import HEARTBEAT_SECONDS, RETRY_MS
from restante.wire import cookies

SECONDS = 20


class Stream:
    """One stream of events, read as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._record = Record()
        self._lines = self._record.lines(response.aiter_bytes())

    async def next(self) -> Event:
        """The next event; raises ``StopAsyncIteration`` at the end of the stream."""
        async with asyncio.timeout(SECONDS):
            while not self._record.events:
                await anext(self._lines)
        return self._record.events.pop(0)

    async def comment(self) -> str:
        """The next comment line. No event may come before it."""
        async with asyncio.timeout(SECONDS + HEARTBEAT_SECONDS):
            while not (line := await anext(self._lines)).startswith(":"):
                assert not line
        return line

    async def notification(self) -> dict[str, Any]:
        event = await self.next()
        assert event.headers["event"] == "notification"
        found: dict[str, Any] = event.data | {"event_id": event.headers["id"]}
        return found

    async def ended(self) -> None:
        with pytest.raises(StopAsyncIteration):
            await self.next()


def path_of(mailbox: Mailbox) -> str:
    return f"/v1/queues/{mailbox.name}/events"


@contextlib.asynccontextmanager
async def streaming(
    mailbox: Mailbox, query: str = "", headers: Any = None
) -> AsyncIterator[Stream]:
    async with (
        mailbox.service.async_caller(mailbox.key) as http,
        http.stream("GET", path_of(mailbox) + query, headers=headers) as response,
    ):
        assert response.status_code == 200
        yield Stream(response)


# -- the stream ---------------------------------------------------------------------------------


async def test_it_begins_with_its_id_and_how_soon_to_come_back(mailbox: Mailbox) -> None:
    async with streaming(mailbox) as stream:
        assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["cache-control"] == "no-store"
        assert stream.response.headers["x-accel-buffering"] == "no"
        event = await stream.next()
        assert event.headers["event"] == "attached"
        assert event.headers["retry"] == RETRY_MS
        assert event.data == {}
        mailbox.publish(b"<a/>")
        notification = await stream.notification()
        assert notification["event_id"] == f"{event.headers['id']}.1"
        assert notification["body"] == "<a/>"


async def test_a_body_of_many_lines_is_one_line_of_data(mailbox: Mailbox) -> None:
    """Line ends that the standard knows, and those that libraries for text take for some."""
    body = "<a>\n\r\n\r</a>\u2028\u2029\x85\x0b\x0c\x1c".encode()
    mailbox.publish(body)
    mailbox.publish(b"\xff\x00")
    async with streaming(mailbox) as stream:
        await stream.next()
        assert (await stream.notification())["body"].encode() == body
        assert (await stream.notification())["body_base64"] == "/wA="


async def test_no_more_comes_than_the_credit_in_notifications(mailbox: Mailbox) -> None:
    for number in range(4):
        mailbox.publish(b"%d" % number)
    async with streaming(mailbox, "?credit=2") as stream:
        await stream.next()
        first, second = [await stream.notification() for _ in range(2)]
        assert mailbox.figures()["leased"] == 2
        mailbox.settle(second["lease"], "ack")
        assert (await stream.notification())["body"] == "2"
        mailbox.settle(first["lease"], "nack", retry_after=60)
        assert (await stream.notification())["body"] == "3"


async def test_no_more_comes_than_the_credit_in_bytes(mailbox: Mailbox) -> None:
    for number in range(3):
        mailbox.publish(b"%d" % number * 600)
    async with streaming(mailbox, "?credit=10&credit_bytes=1000") as stream:
        await stream.next()
        first = await stream.notification()
        # The one that crosses the limit comes too; then nothing does until one is settled.
        assert (await stream.notification())["body"] == "1" * 600
        assert mailbox.figures()["leased"] == 2
        mailbox.settle(first["lease"], "ack")
        mailbox.publish(b"last")
        assert mailbox.figures()["ready"] in {1, 2}


async def test_the_lease_is_as_long_as_asked(mailbox: Mailbox) -> None:
    mailbox.publish()
    async with streaming(mailbox, "?lease=1") as stream:
        await stream.next()
        first = await stream.notification()
        again = await stream.notification()
        assert (again["id"], again["attempt"]) == (first["id"], 2)


BAD_QUERIES = [
    *(
        ("credit=0", "out_of_bounds"),
        ("credit=10001", "out_of_bounds"),
        ("credit=-1", "out_of_bounds"),
    ),
    *(("credit=ten", "malformed"), ("credit=1.5", "malformed"), ("credit=", "malformed")),
    *(("credit=²", "malformed"), (f"credit={'9' * 30}", "out_of_bounds")),
    *(("credit_bytes=0", "out_of_bounds"), ("credit_bytes=268435457", "out_of_bounds")),
    *(("lease=0", "out_of_bounds"), ("lease=43201", "out_of_bounds"), ("lease=x", "malformed")),
    *(("lease=nan", "out_of_bounds"), ("lease=inf", "out_of_bounds")),
]


@pytest.mark.parametrize(("query", "code"), BAD_QUERIES)
def test_what_is_out_of_bounds_is_refused(mailbox: Mailbox, query: str, code: str) -> None:
    answer = mailbox.client.get(f"{path_of(mailbox)}?{query}")
    assert answer.json()["code"] == code
    assert answer.status_code == {"malformed": 400, "out_of_bounds": 422}[code]
    assert answer.headers["content-type"] == "application/problem+json"


def test_only_get_opens_it(mailbox: Mailbox) -> None:
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = mailbox.client.request(method, path_of(mailbox))
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET"


def test_who_may(server: Service, mailbox: Mailbox) -> None:
    other = Mailbox(server)
    assert other.client.get(path_of(mailbox)).json()["code"] == "queue_not_found"
    assert mailbox.publisher.get(path_of(mailbox)).json()["code"] == "forbidden"
    for headers in ({"authorization": "Bearer nonsense"}, {"authorization": "Basic eDp5"}, {}):
        answer = httpx.get(server.url + path_of(mailbox), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    other.close()


@pytest.mark.timeout(90)
async def test_a_comment_comes_when_there_is_nothing_else(mailbox: Mailbox) -> None:
    """One of the few that take their time: the heartbeat itself is the signal."""
    loop = asyncio.get_running_loop()
    async with streaming(mailbox) as stream:
        await stream.next()
        began = loop.time()
        assert await stream.comment() == ": still here"
        assert HEARTBEAT_SECONDS - 1 <= loop.time() - began <= HEARTBEAT_SECONDS + 5
        mailbox.publish(b"<after/>")
        assert (await stream.notification())["body"] == "<after/>"


# -- coming back --------------------------------------------------------------------------------


async def test_who_comes_back_has_its_credit_still(mailbox: Mailbox) -> None:
    """What it holds counts: two of two are out, so nothing new comes before one is settled."""
    for number in range(3):
        mailbox.publish(b"%d" % number)
    async with streaming(mailbox, "?credit=2") as stream:
        await stream.next()
        held = [await stream.notification() for _ in range(2)]
    last = {"last-event-id": held[-1]["event_id"]}
    async with streaming(mailbox, "?credit=2", last) as stream:
        assert (await stream.next()).headers["id"] == held[0]["event_id"].partition(".")[0]
        again = [await stream.notification() for _ in range(2)]
        for earlier, now in zip(held, again, strict=True):
            assert now["lease"] == earlier["lease"]
            assert now["attempt"] == 1
        assert mailbox.figures()["ready"] == 1
        mailbox.settle(again[0]["lease"], "ack")
        assert (await stream.notification())["body"] == "2"


@pytest.mark.parametrize(
    "last",
    ["nonsense", "short.1", "a" * 65, "../../../etc/passwd", "' OR 1=1 --", ".", "é" * 20, "x.y.z"],
)
async def test_a_last_event_id_that_is_nonsense_is_a_new_beginning(
    mailbox: Mailbox, last: str
) -> None:
    mailbox.publish(b"<a/>")
    async with streaming(mailbox, headers={"last-event-id": last.encode()}) as s:
        event = await s.next()
        assert event.headers["event"] == "attached"
        assert last not in event.headers["id"]
        assert (await s.notification())["attempt"] == 1


async def test_an_unknown_last_event_id_finds_nothing_held(mailbox: Mailbox) -> None:
    mailbox.publish(b"<a/>")
    async with streaming(mailbox, headers={"last-event-id": "A" * 16 + ".12"}) as stream:
        await stream.next()
        assert (await stream.notification())["attempt"] == 1


async def test_another_queues_last_event_id_finds_nothing_of_it(
    server: Service, mailbox: Mailbox
) -> None:
    other = Mailbox(server)
    other.publish(b"<theirs/>")
    async with streaming(other) as theirs:
        await theirs.next()
        held = await theirs.notification()
        mailbox.publish(b"<mine/>")
        headers = {"last-event-id": held["event_id"]}
        async with streaming(mailbox, headers=headers) as mine:
            await mine.next()
            assert (await mine.notification())["body"] == "<mine/>"
            # Nor does it displace the stream that bears that id.
            other.publish(b"<more/>")
            assert (await theirs.notification())["body"] == "<more/>"
    other.close()


async def test_who_comes_back_displaces_its_earlier_stream(mailbox: Mailbox) -> None:
    """A proxy may hold a connection open that its client has long given up."""
    mailbox.publish(b"<a/>")
    async with streaming(mailbox) as stale:
        await stale.next()
        held = await stale.notification()
        async with streaming(mailbox, headers={"last-event-id": held["event_id"]}) as back:
            await back.next()
            assert (await back.notification())["lease"] == held["lease"]
            await stale.ended()
            mailbox.publish(b"<b/>")
            assert (await back.notification())["body"] == "<b/>"


async def test_what_was_settled_meanwhile_does_not_come_again(mailbox: Mailbox) -> None:
    for number in range(2):
        mailbox.publish(b"%d" % number)
    async with streaming(mailbox) as stream:
        await stream.next()
        held = [await stream.notification() for _ in range(2)]
    mailbox.settle(held[0]["lease"], "ack")
    async with streaming(mailbox, headers={"last-event-id": held[0]["event_id"]}) as stream:
        await stream.next()
        assert (await stream.notification())["id"] == held[1]["id"]
        assert mailbox.figures()["leased"] == 1


async def test_much_comes_again_in_order(mailbox: Mailbox) -> None:
    """More than fits into one write."""
    for number in range(30):
        mailbox.publish(b"%02d" % number + b"x" * 100_000)
    async with streaming(mailbox, "?credit=100") as stream:
        await stream.next()
        held = [await stream.notification() for _ in range(30)]
    last = {"last-event-id": held[-1]["event_id"]}
    async with streaming(mailbox, "?credit=100", last) as stream:
        await stream.next()
        again = [await stream.notification() for _ in range(30)]
    assert [one["lease"] for one in again] == [one["lease"] for one in held]
    assert [one["body"] for one in again] == [one["body"] for one in held]


# -- leaving ------------------------------------------------------------------------------------


async def test_a_stop_says_when_to_come_back(own_server: Service) -> None:
    mailbox = Mailbox(own_server)
    mailbox.publish(b"<held/>")
    async with streaming(mailbox) as stream:
        await stream.next()
        held = await stream.notification()
        ending = asyncio.create_task(asyncio.to_thread(own_server.end, signal.SIGTERM))
        event = await stream.next()
        assert event.headers["event"] == "drain"
        assert 1_000 <= event.headers["retry"] <= 10_000
        assert "id" not in event.headers
        await stream.ended()
    assert await ending == 0
    own_server.start()
    # The lease has outlived it: the stream goes on where it was.
    async with streaming(mailbox, headers={"last-event-id": held["event_id"]}) as stream:
        await stream.next()
        again = await stream.notification()
        assert (again["lease"], again["attempt"]) == (held["lease"], 1)
        assert mailbox.settle(again["lease"], "ack").status_code == 200
    mailbox.close()


async def test_a_revoked_key_ends_the_stream(mailbox: Mailbox) -> None:
    async with streaming(mailbox) as stream:
        await stream.next()
        mailbox.admin.delete(f"/v1/keys/{mailbox.key.split('_')[1]}").raise_for_status()
        await stream.ended()


# -- the cookie ---------------------------------------------------------------------------------


def _cookie(mailbox: Mailbox) -> str:
    answer = mailbox.client.post("/v1/cookie")
    assert (answer.status_code, answer.content) == (204, b"")
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert value.startswith(f"{cookies.NAME}=")
    assert attributes == [
        *("Path=/", f"Max-Age={cookies.LIFE_SECONDS}", "HttpOnly", "SameSite=Strict")
    ]
    # No jar: each test says itself what goes along.
    mailbox.client.cookies.clear()
    return str(value)


async def test_a_cookie_opens_the_events_of_its_client(mailbox: Mailbox) -> None:
    mailbox.publish(b"<a/>")
    headers = {"cookie": f"a=b; {_cookie(mailbox)}"}
    async with (
        httpx.AsyncClient(base_url=mailbox.service.url, headers=headers) as browser,
        browser.stream("GET", path_of(mailbox)) as response,
    ):
        assert response.status_code == 200
        stream = Stream(response)
        await stream.next()
        assert (await stream.notification())["body"] == "<a/>"


def test_a_cookie_opens_nothing_else(server: Service, mailbox: Mailbox) -> None:
    other = Mailbox(server)
    mailbox.publish()
    (notification,) = mailbox.receive()
    headers = {"cookie": _cookie(mailbox)}
    with httpx.Client(base_url=server.url, headers=headers) as browser:
        for method, path in (
            ("POST", f"/v1/queues/{mailbox.name}/receive"),
            ("POST", f"/v1/queues/{mailbox.name}/next"),
            ("POST", f"/v1/leases/{notification['lease']}/ack"),
            ("GET", f"/v1/queues/{mailbox.name}"),
            ("GET", f"/v1/queues/{mailbox.name}/receipts"),
            ("GET", "/v1/queues"),
            ("POST", "/v1/cookie"),
        ):
            answer = browser.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
        handshake = {
            "upgrade": "websocket",
            "connection": "upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": "MDAwMDAwMDAwMDAwMDAwMA==",
            "sec-websocket-protocol": "restante.v1",
        }
        assert (
            browser.get(f"/v1/queues/{mailbox.name}/socket", headers=handshake).status_code == 401
        )
        assert browser.get(path_of(other)).json()["code"] == "queue_not_found"
    other.close()


async def test_a_cookie_dies_with_its_key(mailbox: Mailbox) -> None:
    headers = {"cookie": _cookie(mailbox)}
    async with httpx.AsyncClient(base_url=mailbox.service.url, headers=headers) as browser:
        async with browser.stream("GET", path_of(mailbox)) as response:
            stream = Stream(response)
            await stream.next()
            mailbox.admin.delete(f"/v1/keys/{mailbox.key.split('_')[1]}").raise_for_status()
            await stream.ended()
        answer = await browser.get(path_of(mailbox))
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_a_cookie_that_is_not_ours_is_refused(server: Service, mailbox: Mailbox) -> None:
    value = _cookie(mailbox)
    swapped = value[:-8] + value[-8:].swapcase()
    for cookie in (swapped, f"{cookies.NAME}=", f"{cookies.NAME}=nonsense", "a=b"):
        answer = httpx.get(server.url + path_of(mailbox), headers={"cookie": cookie})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_a_key_goes_before_a_cookie(mailbox: Mailbox) -> None:
    """A wrong key is not made good by a cookie."""
    headers = {"authorization": "Bearer nonsense", "cookie": _cookie(mailbox)}
    answer = httpx.get(mailbox.service.url + path_of(mailbox), headers=headers)
    assert answer.status_code == 401


def test_only_clients_get_a_cookie(mailbox: Mailbox) -> None:
    for caller in (mailbox.publisher, mailbox.admin):
        answer = caller.post("/v1/cookie")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "set-cookie" not in answer.headers
    assert json.loads(httpx.post(f"{mailbox.service.url}/v1/cookie").text)["status"] == 401
