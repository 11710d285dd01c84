"""The WebSocket: handshakes, frames, limits and leaving. What every transport does is in test_transports.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import Any

import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.sockets import SECONDS, linked, opened, received, written
from websockets.exceptions import ConnectionClosed, InvalidStatus

from restante.testing.transports.drivers.websocket import BINARY, TEXT
from restante.transports.websocket import CLIENT_MESSAGE_BYTES

BOTH = pytest.mark.parametrize("subprotocol", [TEXT, BINARY])


def path_of(mailbox: Mailbox) -> str:
    return f"/v1/queues/{mailbox.name}/socket"


async def taken(link: Any, count: int = 1) -> list[Any]:
    async with asyncio.timeout(SECONDS):
        return [await link.received.get() for _ in range(count)]


# -- handshakes ---------------------------------------------------------------------------------


async def _refused(handshake: Any, status: int, code: str) -> dict[str, Any]:
    with pytest.raises(InvalidStatus) as refused:
        await handshake
    answer = refused.value.response
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(answer.body)
    assert problem["code"] == code
    return problem


async def test_an_unknown_subprotocol_is_refused(server: Service, mailbox: Mailbox) -> None:
    for names in ((), ("mqtt",), ("restante.v2", "restante")):
        problem = await _refused(
            opened(server, path_of(mailbox), mailbox.key, *names), 400, "malformed"
        )
        assert TEXT in problem["detail"]


async def test_the_first_known_subprotocol_is_taken(server: Service, mailbox: Mailbox) -> None:
    for names, chosen in (((TEXT, BINARY), TEXT), ((BINARY, TEXT), BINARY), (("x", TEXT), TEXT)):
        async with opened(server, path_of(mailbox), mailbox.key, *names) as connection:
            assert connection.subprotocol == chosen


async def test_a_wrong_key_is_refused(server: Service, mailbox: Mailbox) -> None:
    for key in (None, "nonsense", mailbox.key[:-1] + "x"):
        problem = await _refused(
            opened(server, path_of(mailbox), key, TEXT), 401, "unauthenticated"
        )
        assert mailbox.key not in str(problem)


async def test_a_key_among_the_subprotocols_is_taken_and_never_chosen(
    server: Service, mailbox: Mailbox
) -> None:
    """As browsers have to give it."""
    key = f"restante.key.{mailbox.key}"
    for names in ((TEXT, key), (key, TEXT)):
        async with opened(server, path_of(mailbox), None, *names) as connection:
            assert connection.subprotocol == TEXT
    await _refused(opened(server, path_of(mailbox), None, key), 400, "malformed")
    await _refused(
        opened(server, path_of(mailbox), None, TEXT, "restante.key.no"), 401, "unauthenticated"
    )


async def test_a_queue_of_others_is_not_there(server: Service, mailbox: Mailbox) -> None:
    other = Mailbox(server)
    for name in (other.name, "nobody-s"):
        path = f"/v1/queues/{name}/socket"
        await _refused(opened(server, path, mailbox.key, TEXT), 404, "queue_not_found")
    other.close()


def test_a_plain_request_is_told_to_upgrade(mailbox: Mailbox) -> None:
    for path in (path_of(mailbox), "/v1/socket"):
        for method in ("GET", "POST"):
            answer = mailbox.client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
            assert answer.headers["upgrade"] == "websocket"


async def test_compression_is_not_negotiated(server: Service, mailbox: Mailbox) -> None:
    async with opened(
        server, path_of(mailbox), mailbox.key, TEXT, compression="deflate"
    ) as connection:
        assert connection.protocol.extensions == []


async def test_no_more_connections_than_the_operator_allows(tmp_path: Any) -> None:
    service = Service(tmp_path / "data", "--connections-per-principal", "2")
    service.start()
    mailbox, other = Mailbox(service), Mailbox(service)
    try:
        async with (
            linked(service, path_of(mailbox), mailbox.key),
            linked(service, "/v1/socket", mailbox.key),
        ):
            await _refused(
                opened(service, path_of(mailbox), mailbox.key, TEXT), 429, "too_many_connections"
            )
            events = mailbox.client.get(f"/v1/queues/{mailbox.name}/events")
            assert (events.status_code, events.json()["code"]) == (429, "too_many_connections")
            assert int(events.headers["retry-after"]) >= 1
            # Others have their own, and one that is closed makes room.
            async with linked(service, path_of(other), other.key):
                pass
        async with linked(service, path_of(mailbox), mailbox.key):
            pass
    finally:
        mailbox.close()
        other.close()
        assert service.end(signal.SIGTERM) == 0


# -- frames -------------------------------------------------------------------------------------

LEASE = {"lease": "nonsense"}
BAD_FRAMES: list[tuple[Any, str, str]] = [
    ({"type": "eat"}, "malformed", "eat"),
    ({"type": "credit"}, "malformed", "messages"),
    ({"type": "credit", "messages": 1, "mesages": 2}, "malformed", "mesages"),
    ({"type": "credit", "messages": -1}, "out_of_bounds", "credit"),
    ({"type": "credit", "messages": 10_001}, "out_of_bounds", "credit"),
    ({"type": "credit", "messages": 10**30}, "out_of_bounds", "credit"),
    ({"type": "credit", "messages": 1, "bytes": 0}, "out_of_bounds", "bytes"),
    ({"type": "credit", "messages": 1, "bytes": 2**28 + 1}, "out_of_bounds", "bytes"),
    ({"type": "credit", "messages": 1, "lease_seconds": 0}, "out_of_bounds", "lease"),
    ({"type": "credit", "messages": 1, "lease_seconds": 1e9}, "out_of_bounds", "lease"),
    ({"type": "credit", "messages": 1, "queue": "nobody-s"}, "queue_not_found", "nobody-s"),
    ({"type": "credit", "messages": 1, "queue": "../x"}, "queue_not_found", ""),
    ({"type": "ack", "items": []}, "out_of_bounds", "items"),
    ({"type": "ack", "items": [LEASE] * 1_001}, "out_of_bounds", "items"),
    ({"type": "publish", "notifications": [{"queue": "q"}]}, "forbidden", "publisher"),
    ({"type": "publish", "notifications": []}, "out_of_bounds", "notifications"),
    (["credit"], "malformed", "object"),
]


@BOTH
async def test_a_bad_frame_is_told_of_and_the_connection_goes_on(
    server: Service, mailbox: Mailbox, subprotocol: str
) -> None:
    mailbox.publish(b"<after/>")
    async with opened(server, path_of(mailbox), mailbox.key, subprotocol) as connection:
        for number, (bad, code, says) in enumerate(BAD_FRAMES):
            frame = {**bad, "ref": f"r{number}"} if isinstance(bad, dict) else bad
            await connection.send(written(frame, subprotocol))
            error = await received(connection)
            assert (error["type"], error["code"]) == ("error", code), (frame, error)
            assert says in error["detail"]
            assert error.get("ref", "") == (f"r{number}" if isinstance(frame, dict) else "")
            assert ("bounds" in error) == (code == "out_of_bounds")
        assert mailbox.figures()["leased"] == 0
        await connection.send(written({"type": "credit", "messages": 1}, subprotocol))
        assert (await received(connection))["type"] == "notifications"


async def test_what_is_no_frame_is_told_of(server: Service, mailbox: Mailbox) -> None:
    text: list[str | bytes] = [
        *(b"\0\0\0\2{}", "", "{", "nonsense", '{"type":"credit","messages":1}}', "[" * 100_000),
    ]
    binary: list[str | bytes] = [
        *('{"type":"credit","messages":1}', b"", b"\0\0", b"\0\0\0\5{}", b"\xff" * 10),
        *(b"\0\0\0\2{}", written({"type": "credit", "messages": 1}, BINARY) + b"more"),  # type: ignore[operator]
        written({"type": "ack", "items": [{"lease": "x", "reply_bytes": 9}]}, BINARY, b"short"),
        written({"type": "ack", "items": [{"lease": "x", "reply_bytes": -1}]}, BINARY),
        written({"type": "ack", "items": [{"lease": "x", "reply_bytes": 2**63}]}, BINARY),
    ]
    messages: list[tuple[str, list[str | bytes]]] = [(TEXT, text), (BINARY, binary)]
    for subprotocol, bad in messages:
        async with opened(server, path_of(mailbox), mailbox.key, subprotocol) as connection:
            for message in bad:
                await connection.send(message)
                error = await received(connection)
                assert (error["code"], error["status"]) == ("malformed", 400), message
    assert mailbox.figures()["published"] == 0


async def test_a_message_too_large_closes_the_connection(server: Service, mailbox: Mailbox) -> None:
    for pieces in (
        "x" * (CLIENT_MESSAGE_BYTES + 1),
        ["x" * 65_536] * (CLIENT_MESSAGE_BYTES // 65_536 + 1),
    ):
        async with opened(server, path_of(mailbox), mailbox.key, TEXT) as connection:
            # Closed on us while we were still sending: as good an answer.
            with contextlib.suppress(ConnectionClosed):
                await connection.send(pieces)
            await connection.wait_closed()
            assert connection.close_code == 1009


async def test_a_message_in_pieces_is_one(server: Service, mailbox: Mailbox) -> None:
    frame = json.dumps({"type": "credit", "messages": 1, "ref": "r" * 100, "queue": "nobody-s"})
    async with opened(server, path_of(mailbox), mailbox.key, TEXT) as connection:
        await connection.send(list(frame))
        assert (await received(connection))["ref"] == "r" * 100


async def test_text_that_is_not_utf_8_closes_the_connection(
    server: Service, mailbox: Mailbox
) -> None:
    async with opened(server, path_of(mailbox), mailbox.key, TEXT) as connection:
        await connection.send(b'{"type":"\xff"}', text=True)
        with pytest.raises(ConnectionClosed) as closed:
            await received(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007


# -- credit and queues --------------------------------------------------------------------------


async def test_credit_names_its_queue_where_the_address_does_not(
    server: Service, mailbox: Mailbox
) -> None:
    mailbox.publish(b"<a/>")
    async with linked(server, "/v1/socket", mailbox.key) as link:
        error = await link.ask({"type": "credit", "messages": 1})
        assert (error["code"], error["detail"]) == (
            "malformed",
            "name the queue that the credit is for",
        )
        await link.send({"type": "credit", "messages": 1, "queue": mailbox.name})
        assert (await taken(link))[0].body == b"<a/>"


async def test_credit_taken_back_stops_what_comes(server: Service, mailbox: Mailbox) -> None:
    async with linked(server, path_of(mailbox), mailbox.key) as link:
        await link.send({"type": "credit", "messages": 2})
        await link.send({"type": "credit", "messages": 0})
        # Answered after both, since frames take effect in their order.
        await link.ask({"type": "release", "items": [LEASE]})
        mailbox.publish(b"<a/>")
        assert mailbox.figures()["leased"] == 0
        await link.send({"type": "credit", "messages": 1})
        assert (await taken(link))[0].body == b"<a/>"


async def test_who_sends_nothing_is_sent_nothing(server: Service, mailbox: Mailbox) -> None:
    async with linked(server, path_of(mailbox), mailbox.key) as silent:
        mailbox.publish(b"<a/>")
        (notification,) = mailbox.receive(wait=20)
        assert notification["attempt"] == 1
        assert silent.received.empty()
        assert silent.frames.empty()


async def test_many_queues_share_a_connection(server: Service, mailbox: Mailbox) -> None:
    names = [f"{mailbox.name}-{number}" for number in range(60)]
    for name in names:
        mailbox.admin.put(f"/v1/queues/{name}", json={"owner": mailbox.name}).raise_for_status()
    async with linked(server, "/v1/socket", mailbox.key) as link:
        for name in names:
            await link.send({"type": "credit", "queue": name, "messages": 2})
        batch = [{"queue": name, "body": f"{name}.{n}"} for n in range(3) for name in names]
        answer = mailbox.publisher.post("/v1/notifications", json={"notifications": batch})
        assert all(result["ok"] for result in answer.json()["results"])
        first = await taken(link, 2 * len(names))
        assert {one.body.decode() for one in first} == {
            f"{name}.{n}" for name in names for n in (0, 1)
        }
        assert {one.queue for one in first} == set(names)
        # One frame may settle what came from many; each makes room for the next of its queue.
        frame = {"type": "ack", "items": [{"lease": one.lease} for one in first]}
        settled = await link.ask(frame)
        assert [item["ok"] for item in settled["items"]] == [True] * len(first)
        assert {one.body.decode() for one in await taken(link, len(names))} == {
            f"{name}.2" for name in names
        }


async def test_two_connections_share_a_queue(server: Service, mailbox: Mailbox) -> None:
    async with (
        linked(server, path_of(mailbox), mailbox.key) as one,
        linked(server, "/v1/socket", mailbox.key, BINARY) as other,
    ):
        for link in (one, other):
            await link.send({"type": "credit", "messages": 1, "queue": mailbox.name})
        for number in range(10):
            mailbox.publish(b"%d" % number)
        seen: list[bytes] = []

        async def collect(link: Any) -> None:
            while len(seen) < 10:
                delivered = await link.received.get()
                seen.append(delivered.body)
                await link.ask({"type": "ack", "items": [{"lease": delivered.lease}]})

        tasks = [asyncio.create_task(collect(link)) for link in (one, other)]
        async with asyncio.timeout(SECONDS):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(seen) == [b"%d" % number for number in range(10)]


# -- settling and publishing --------------------------------------------------------------------


@BOTH
async def test_each_item_stands_by_itself(
    server: Service, mailbox: Mailbox, subprotocol: str
) -> None:
    other = Mailbox(server)
    mailbox.settings(lease_seconds=1, backoff_base_seconds=0)
    for body in (b"<lost/>", b"<good/>"):
        mailbox.publish(body)
    other.publish(b"<theirs/>")
    (theirs,) = other.receive()
    lost = mailbox.receive(max=1)[0]
    async with linked(server, path_of(mailbox), mailbox.key, subprotocol) as link:
        await link.send({"type": "credit", "messages": 10, "lease_seconds": 60})
        by_body = {one.body: one for one in await taken(link, 2)}
        assert by_body[b"<lost/>"].attempt == 2
        leases = [lost["lease"], by_body[b"<good/>"].lease, theirs["lease"], "nonsense"]
        for _ in range(2):
            frame = {"type": "ack", "items": [{"lease": lease} for lease in leases]}
            settled = await link.ask(frame)
            assert [item["lease"] for item in settled["items"]] == leases
            assert [item.get("code", item.get("outcome")) for item in settled["items"]] == [
                *("lease_lost", "acked", "lease_not_found", "lease_not_found"),
            ]
    assert other.settle(theirs["lease"], "ack").status_code == 200
    other.close()


async def test_a_thousand_items_are_settled_in_one_frame(server: Service, mailbox: Mailbox) -> None:
    batch = [{"queue": mailbox.name, "body": str(number)} for number in range(1_000)]
    async with linked(server, "/v1/socket", mailbox.publisher_key) as link:
        published = await link.ask({"type": "publish", "notifications": batch})
        assert [result["ok"] for result in published["results"]] == [True] * 1_000
        refused = await link.ask({"type": "publish", "notifications": [*batch, batch[0]]})
        assert refused["code"] == "out_of_bounds"
    async with linked(server, path_of(mailbox), mailbox.key) as link:
        await link.send({"type": "credit", "messages": 10_000})
        got = await taken(link, 1_000)
        frame = {"type": "ack", "items": [{"lease": one.lease} for one in got]}
        assert all(item["ok"] for item in (await link.ask(frame))["items"])
    figures = mailbox.figures()
    assert (figures["acked"], figures["published"]) == (1_000, 1_000)


async def test_a_publisher_may_publish_and_nothing_else(server: Service, mailbox: Mailbox) -> None:
    mailbox.publish()
    (notification,) = mailbox.receive()
    async with linked(server, path_of(mailbox), mailbox.publisher_key) as link:
        for frame in (
            {"type": "credit", "messages": 1},
            {"type": "ack", "items": [{"lease": notification["lease"]}]},
            {"type": "extend", "items": [{"lease": notification["lease"]}]},
        ):
            assert (await link.ask(frame))["code"] == "forbidden"
        one = {"queue": mailbox.name, "idempotency_key": "k", "ordering_key": "o"}
        published = await link.ask({"type": "publish", "notifications": [one]}, [b"<a/>"])
        again = await link.ask({"type": "publish", "notifications": [{**one}]}, [b"<a/>"])
        assert again["results"][0] == {**published["results"][0], "replayed": True}
    assert mailbox.figures()["leased"] == 1


async def test_a_publish_says_of_each_why_not(server: Service, mailbox: Mailbox) -> None:
    mailbox.settings(max_body_bytes=10)
    items: list[dict[str, Any]] = [
        {"queue": mailbox.name, "body": "good"},
        {"queue": mailbox.name},
        {"queue": mailbox.name, "body": "much too long"},
        {"queue": "nobody-s", "body": "x"},
        {"queue": mailbox.name, "topic": "both", "body": "x"},
        {"queue": mailbox.name, "body": "x", "content_type": "xml"},
        {"queue": mailbox.name, "body": "x", "deliver_after_seconds": -1},
        {"topic": "nobody.listens", "body": "x"},
    ]
    async with linked(server, "/v1/socket", mailbox.publisher_key) as link:
        published = await link.ask({"type": "publish", "notifications": items})
    assert [result.get("code") for result in published["results"]] == [
        *(None, "malformed", "body_too_large", "queue_not_found", "malformed"),
        *("invalid_header", "out_of_bounds", None),
    ]
    assert published["results"][-1]["deliveries"] == []
    assert mailbox.figures()["published"] == 1


async def test_a_publisher_may_send_the_largest_body(server: Service, mailbox: Mailbox) -> None:
    mailbox.settings(max_body_bytes=16 * 1024 * 1024)
    body = b"\xff" * (16 * 1024 * 1024)
    for subprotocol in (TEXT, BINARY):
        async with linked(server, "/v1/socket", mailbox.publisher_key, subprotocol) as link:
            frame = {"type": "publish", "notifications": [{"queue": mailbox.name}]}
            published = await link.ask(frame, [body])
            assert published["results"][0]["ok"]
        async with linked(server, path_of(mailbox), mailbox.key, subprotocol) as link:
            await link.send({"type": "credit", "messages": 1, "bytes": 1})
            (delivered,) = await taken(link)
            assert delivered.body == body
            await link.ask({"type": "ack", "items": [{"lease": delivered.lease}]})


@BOTH
async def test_an_administrator_publishes_and_collects_on_one_connection(
    server: Service, mailbox: Mailbox, subprotocol: str
) -> None:
    async with linked(server, path_of(mailbox), ADMIN_KEY, subprotocol) as link:
        await link.send({"type": "credit", "messages": 1})
        frame = {"type": "publish", "notifications": [{"queue": mailbox.name}]}
        published = await link.ask(frame, [b"\xff<a/>"])
        (delivered,) = await taken(link)
        assert (delivered.id, delivered.body) == (published["results"][0]["id"], b"\xff<a/>")
        settled = await link.ask({"type": "ack", "items": [{"lease": delivered.lease}]})
        assert settled["items"][0]["state"] == "acked"


# -- leaving ------------------------------------------------------------------------------------


async def test_a_revoked_key_closes_the_connection_with_its_reason(
    server: Service, mailbox: Mailbox
) -> None:
    async with opened(server, path_of(mailbox), mailbox.key, TEXT) as connection:
        mailbox.admin.delete(f"/v1/keys/{mailbox.key.split('_')[1]}").raise_for_status()
        error = await received(connection)
        assert (error["type"], error["code"]) == ("error", "unauthenticated")
        with pytest.raises(ConnectionClosed) as closed:
            await received(connection)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "unauthenticated")


async def test_a_stop_lets_clients_settle_and_leave(own_server: Service) -> None:
    mailbox = Mailbox(own_server)
    second = f"{mailbox.name}-second"
    mailbox.admin.put(f"/v1/queues/{second}", json={"owner": mailbox.name}).raise_for_status()
    for body in (b"<held/>", b"<waiting/>"):
        mailbox.publish(body)
    async with (
        linked(own_server, path_of(mailbox), mailbox.key) as link,
        opened(own_server, path_of(mailbox), mailbox.key, TEXT) as idle,
    ):
        await link.send({"type": "credit", "messages": 1})
        (held,) = await taken(link)
        ending = asyncio.create_task(asyncio.to_thread(own_server.end, signal.SIGTERM))
        async with asyncio.timeout(SECONDS):
            drain = await link.frames.get()
        assert drain["type"] == "drain"
        assert 1 <= drain["reconnect_after_seconds"] <= 10
        # Nobody new is let in, nothing new is handed out, and what is held can be settled.
        await _refused(
            opened(own_server, path_of(mailbox), mailbox.key, TEXT), 503, "shutting_down"
        )
        error = await link.ask({"type": "credit", "messages": 10, "queue": second})
        assert error["code"] == "shutting_down"
        settled = await link.ask({"type": "ack", "items": [{"lease": held.lease}]})
        assert settled["items"][0]["state"] == "acked"
        assert link.received.empty()
        await link.close()
        # Who does not leave is disconnected in the end.
        assert (await received(idle))["type"] == "drain"
        with pytest.raises(ConnectionClosed) as closed:
            await received(idle)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert await ending == 0
    own_server.start()
    figures = mailbox.figures()
    assert (figures["acked"], figures["ready"], figures["leased"]) == (1, 1, 0)
    mailbox.close()


async def test_a_stop_does_not_wait_for_who_has_left(own_server: Service) -> None:
    mailbox = Mailbox(own_server)
    async with linked(own_server, path_of(mailbox), mailbox.key) as link:
        loop = asyncio.get_running_loop()
        ending = asyncio.create_task(asyncio.to_thread(own_server.end, signal.SIGTERM))
        async with asyncio.timeout(SECONDS):
            assert (await link.frames.get())["type"] == "drain"
        left = loop.time()
        await link.close()
        assert await ending == 0
        assert loop.time() - left < 4
    mailbox.close()
