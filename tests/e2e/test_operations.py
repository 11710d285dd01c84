"""Operations over HTTP, events, the WebSocket and the SDK, on servers that are killed, stopped and many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncGenerator
from typing import Any, Final

import httpx
import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service, until_waited_for
from tests.e2e.sockets import opened, received
from tests.e2e.test_asyncapi import MESSAGES, validator
from websockets.exceptions import ConnectionClosedError

from restante.client import Client
from restante.errors import OperationChanged, OperationEnded, OperationNotFound
from restante.operation import OperationState
from restante.wire.operation_messages import SUBPROTOCOL

SECONDS: Final = 40.0
SOCKET: Final = "/v1/operations/socket"
pytestmark = pytest.mark.timeout(120)


def make(box: Mailbox, **asked: Any) -> dict[str, Any]:
    asked = {"title": "a report", "client": box.name, "queue": box.name} | asked
    answer = box.publisher.post("/v1/operations", json=asked)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/operations/{found['id']}"
    assert answer.headers["etag"] == '"1"'
    return found


def move(box: Mailbox, id: str, **asked: Any) -> dict[str, Any]:
    answer = box.publisher.patch(f"/v1/operations/{id}", json=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["etag"] == f'"{found["version"]}"'
    return found


async def told(service: Service, box: Mailbox, count: int) -> list[dict[str, Any]]:
    """What the queue was told, each signed for; and that there is no more of it."""
    found: list[dict[str, Any]] = []
    async with service.async_caller(box.key) as caller, asyncio.timeout(SECONDS):
        while len(found) < count:
            path = f"/v1/queues/{box.name}/receive"
            for one in (await caller.post(path, json={"wait": 10})).json()["notifications"]:
                found.append(json.loads(one["body"]))
                assert one["attributes"]["operation"] == found[-1]["id"]
                await caller.post(f"/v1/leases/{one['lease']}/ack")
    assert len(box.receipts(outcome="published", limit="1000")) == count
    return found


async def events(
    caller: httpx.AsyncClient, id: str, last: str | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Each as its fields, with its data read."""
    headers = {} if last is None else {"last-event-id": last}
    async with caller.stream("GET", f"/v1/operations/{id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        event: dict[str, Any] = {}
        async for line in stream.aiter_lines():
            name, _, value = line.partition(": ")
            if name:
                event[name] = json.loads(value) if name == "data" else value
            elif "data" in event:
                yield event
                event = {}


async def test_from_its_beginning_to_its_end(server: Service, mailbox: Mailbox) -> None:
    id = make(mailbox)["id"]
    async with server.async_caller(mailbox.key) as caller:
        path = f"/v1/operations/{id}"
        waiting = asyncio.create_task(caller.get(path, params={"wait": 60, "after": 1}))
        running = move(mailbox, id, state="running", progress=0.25, note="page 1 of 4")
        assert (await waiting).json() == running
        waiting = asyncio.create_task(caller.get(path, params={"wait": 60}))
        move(mailbox, id, progress=0.5)
        ended = move(mailbox, id, state="succeeded", result="<r/>", result_content_type="text/xml")
        assert (await waiting).json() == ended
        in_xml = await caller.get(path, headers={"accept": "application/xml"})
        assert "<state>succeeded</state>" in in_xml.text
    assert (ended["progress"], ended["version"]) == (1.0, 4)
    assert await told(server, mailbox, 1) == [ended]
    assert mailbox.publisher.get("/v1/operations").json()["operations"] == []


def test_who_may_and_what_may_not_be(server: Service, mailbox: Mailbox) -> None:
    operation = make(mailbox)
    path = f"/v1/operations/{operation['id']}"
    other = Mailbox(server)
    with contextlib.closing(other):
        for caller in (other.client, other.publisher):
            for method in ("GET", "PATCH"):
                answer = caller.request(method, path, json={} if method == "PATCH" else None)
                assert (answer.status_code, answer.json()["code"]) == (404, "operation_not_found")
            assert caller.get(f"{path}/events").status_code == 404
    assert mailbox.client.get(path).json() == operation
    assert mailbox.client.patch(path, json={"progress": 1}).status_code == 403
    assert mailbox.client.post("/v1/operations", json={}).status_code == 403
    for asked, status, code in (
        ({"progress": 2}, 422, "out_of_bounds"),
        ({"state": "done"}, 400, "malformed"),
        ({"state": "failed"}, 400, "malformed"),
        ({"result": "x"}, 400, "malformed"),
        ({"state": "succeeded", "result": "x" * 65_537}, 422, "out_of_bounds"),
        ({"state": "succeeded", "result_base64": "?"}, 400, "malformed"),
    ):
        answer = mailbox.publisher.patch(path, json=asked)
        assert (answer.status_code, answer.json()["code"]) == (status, code), asked
    stale = mailbox.publisher.patch(path, json={"progress": 1}, headers={"if-match": '"7"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "operation_changed")
    bad = mailbox.publisher.patch(path, json={"progress": 1}, headers={"if-match": "seven"})
    assert bad.status_code == 400
    fresh = mailbox.publisher.patch(path, json={"progress": 1}, headers={"if-match": '"1"'})
    assert fresh.json()["version"] == 2
    move(mailbox, operation["id"], state="cancelled")
    ended = mailbox.publisher.patch(path, json={"state": "running"})
    assert (ended.status_code, ended.json()["code"]) == (409, "operation_ended")


async def test_events_go_on_where_they_were(server: Service, mailbox: Mailbox) -> None:
    id = make(mailbox)["id"]
    async with server.async_caller(mailbox.key) as caller:
        async with contextlib.aclosing(events(caller, id)) as stream:
            first = await anext(stream)
            assert (first["event"], first["id"], first["data"]["state"]) == (
                *("operation", "1"),
                "queued",
            )
            move(mailbox, id, state="running")
            second = await anext(stream)
            assert (second["id"], second["data"]["state"]) == ("2", "running")
        async with contextlib.aclosing(events(caller, id, last="2")) as stream:
            waiting = asyncio.ensure_future(anext(stream))
            ended = move(mailbox, id, state="failed", error={"code": "no_paper"})
            third = await waiting
            assert (third["id"], third["data"]) == ("3", ended)
            assert [one async for one in stream] == [], "it ends with the operation"
        over = await caller.get(f"/v1/operations/{id}/events", headers={"last-event-id": "3"})
        assert over.status_code == 204
    described = MESSAGES["operationEvent"]
    for event in (first, second, third):
        validator(described["payload"]).validate(event["data"])


async def test_many_on_one_socket(server: Service, mailbox: Mailbox) -> None:
    ids = [make(mailbox, queue="")["id"] for _ in range(20)]
    frames = []
    async with opened(server, SOCKET, mailbox.key, SUBPROTOCOL) as socket:
        await socket.send(json.dumps({"type": "watch", "ids": [*ids, "unknown"], "ref": "w"}))
        frames += [await received(socket) for _ in range(21)]
        assert [frame["operation"]["id"] for frame in frames[:20]] == ids
        assert (frames[20]["code"], frames[20]["ref"]) == ("operation_not_found", "w")
        await socket.send(json.dumps({"type": "unwatch", "ids": ids[:10]}))
        for bad in (b"binary", "no JSON", '{"type":"eat"}', '{"type":"watch","ids":[]}'):
            await socket.send(bad)
            frames.append(await received(socket))
            assert frames[-1]["code"] in ("malformed", "out_of_bounds"), bad
        for id in ids:
            move(mailbox, id, state="succeeded")
        ends = [await received(socket) for _ in range(10)]
        assert {frame["operation"]["id"] for frame in ends} == set(ids[10:])
        assert {frame["operation"]["state"] for frame in ends} == {"succeeded"}
    for frame in (*frames, *ends):
        validator(MESSAGES[frame["type"]]["payload"]).validate(frame)


async def test_a_stop_tells_those_who_watch(own_server: Service, box: Mailbox) -> None:
    id = make(box)["id"]
    async with (
        own_server.async_caller(box.key) as caller,
        opened(own_server, SOCKET, box.key, SUBPROTOCOL) as socket,
        contextlib.aclosing(events(caller, id)) as stream,
    ):
        await socket.send(json.dumps({"type": "watch", "ids": [id]}))
        await received(socket)
        await anext(stream)
        path = f"/v1/operations/{id}"
        waiting = asyncio.create_task(caller.get(path, params={"wait": 60, "after": 1}))
        # A round trip behind it: by now the server has it.
        await caller.get(path)
        stopping = asyncio.create_task(asyncio.to_thread(own_server.end, signal.SIGTERM))
        drain = await received(socket)
        assert drain["type"] == "drain"
        validator(MESSAGES["drain"]["payload"]).validate(drain)
        assert (await anext(stream))["event"] == "drain"
        assert (await waiting).json()["version"] == 1
        await socket.close()
    assert await stopping == 0


async def test_a_revoked_key_watches_no_more(server: Service, mailbox: Mailbox) -> None:
    id = make(mailbox)["id"]
    async with opened(server, SOCKET, mailbox.key, SUBPROTOCOL) as socket:
        await socket.send(json.dumps({"type": "watch", "ids": [id]}))
        await received(socket)
        key_id = mailbox.key.split("_")[1]
        assert mailbox.admin.delete(f"/v1/keys/{key_id}").is_success
        assert (await received(socket))["code"] == "unauthenticated"
    assert socket.close_code == 1008


async def test_killed_between_the_end_and_the_telling(own_server: Service, box: Mailbox) -> None:
    """Whatever was answered is there again, and each end is told once."""
    for _ in range(3):
        made = [make(box)["id"] for _ in range(10)]
        for id in made:
            move(box, id, state="succeeded", result=id)
        own_server.end(signal.SIGKILL)
        own_server.start()
        for id in made:
            assert box.client.get(f"/v1/operations/{id}").json()["result"] == id
    found = await told(own_server, box, 30)
    assert len({one["id"] for one in found}) == 30
    assert {one["state"] for one in found} == {"succeeded"}


async def test_nobody_ends_it_in_its_time_though_killed(own_server: Service, box: Mailbox) -> None:
    id = make(box, timeout_seconds=1)["id"]
    own_server.end(signal.SIGKILL)
    own_server.start()
    (end,) = await told(own_server, box, 1)
    assert (end["id"], end["error"]["code"]) == (id, "timed_out")


async def test_who_follows_goes_on_after_a_killed_server(own_server: Service, box: Mailbox) -> None:
    """By events, on the WebSocket and by long polls: what they have missed is told first, and then the end."""
    made = make(box)
    id, path = made["id"], f"/v1/operations/{made['id']}"
    watch = json.dumps({"type": "watch", "ids": [id]})
    async with (
        own_server.async_caller(box.key) as caller,
        opened(own_server, SOCKET, box.key, SUBPROTOCOL) as socket,
        contextlib.aclosing(events(caller, id)) as stream,
    ):
        await socket.send(watch)
        assert (await received(socket))["operation"] == made
        assert (await anext(stream))["data"] == made
        waiting = asyncio.create_task(caller.get(path, params={"wait": 60, "after": 1}))
        await until_waited_for(own_server, 3)
        own_server.end(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            await anext(stream)
        with pytest.raises(httpx.TransportError):
            await waiting
        with pytest.raises(ConnectionClosedError):
            await socket.recv()
    own_server.start()
    running = move(box, id, state="running")
    async with (
        own_server.async_caller(box.key) as caller,
        opened(own_server, SOCKET, box.key, SUBPROTOCOL) as socket,
        contextlib.aclosing(events(caller, id, last="1")) as stream,
        asyncio.timeout(SECONDS),
    ):
        await socket.send(watch)
        assert (await received(socket))["operation"] == running
        missed = await anext(stream)
        assert (missed["id"], missed["data"]) == ("2", running)
        assert (await caller.get(path, params={"wait": 60, "after": 1})).json() == running
        waiting = asyncio.create_task(caller.get(path, params={"wait": 60}))
        await until_waited_for(own_server, 3)
        ended = move(box, id, state="succeeded", result="<r/>")
        assert (await received(socket))["operation"] == ended
        last = await anext(stream)
        assert (last["id"], last["data"]) == ("3", ended)
        assert (await waiting).json() == ended


async def test_with_the_sdk(server: Service, mailbox: Mailbox) -> None:
    async with (
        Client(server.url, mailbox.publisher_key) as shop,
        Client(server.url, mailbox.key) as acme,
    ):
        asked = {"client": mailbox.name, "runner": mailbox.name, "idempotency_key": mailbox.name}
        made = await shop.create_operation(**asked)  # type: ignore[arg-type]
        assert await shop.create_operation(**asked) == made  # type: ignore[arg-type]
        assert (await shop.open_operations(runner=mailbox.name)).operations == [made]
        seen = []

        async def follow() -> None:
            async for operation in acme.watch_operation(made.id):
                seen.append(operation.state)

        following = asyncio.create_task(follow())
        running = await shop.move_operation(made.id, state=OperationState.RUNNING, version=1)
        with pytest.raises(OperationChanged):
            await shop.move_operation(made.id, progress=0.5, version=1)
        waiting = asyncio.create_task(acme.operation(made.id, wait=30))
        await shop.move_operation(made.id, progress=0.5, version=running.version)
        end = await shop.move_operation(
            made.id, state=OperationState.SUCCEEDED, result=b"\xff", result_content_type="image/x"
        )
        assert await waiting == end
        assert (end.result, end.result_base64) == (None, "/w==")
        await following
        assert seen[-1] is OperationState.SUCCEEDED
        with pytest.raises(OperationEnded):
            await shop.move_operation(
                made.id, state=OperationState.FAILED, error=("no_paper", "the printer is empty")
            )
        with pytest.raises(OperationNotFound):
            await acme.operation("unknown")


async def test_on_two_nodes(nodes: tuple[Service, Service]) -> None:
    """Who waits on one hears of what is done on the other; of both, one tells; when one is killed, the other does."""
    one, two = nodes
    box = Mailbox(one)
    with contextlib.closing(box):
        ids = [make(box)["id"] for _ in range(10)]
        async with (
            two.async_caller(box.key) as caller,
            opened(two, SOCKET, box.key, SUBPROTOCOL) as socket,
            two.async_caller(box.publisher_key) as shop,
        ):
            await socket.send(json.dumps({"type": "watch", "ids": ids}))
            for _ in ids:
                await received(socket)
            waiting = asyncio.create_task(caller.get(f"/v1/operations/{ids[0]}?wait=60"))
            for id in ids[:5]:
                move(box, id, state="succeeded")
            assert (await waiting).json()["state"] == "succeeded"
            ends = [await received(socket) for _ in range(5)]
            assert {frame["operation"]["id"] for frame in ends} == set(ids[:5])
            # Ended on both at once: one of them does it.
            ended = [
                asyncio.create_task(shop.patch(f"/v1/operations/{id}", json={"state": "succeeded"}))
                for id in ids[5:]
            ]
            for id in ids[5:]:
                answer = await asyncio.to_thread(
                    box.publisher.patch, f"/v1/operations/{id}", json={"state": "cancelled"}
                )
                assert answer.status_code in (200, 409)
            assert {(await answer).status_code for answer in ended} <= {200, 409}
            states = {id: (await caller.get(f"/v1/operations/{id}")).json()["state"] for id in ids}
            last = make(box, timeout_seconds=2)["id"]
            one.end(signal.SIGKILL)
            box.admin.close()
            box.admin = two.caller()
            found: dict[str, str] = {}
            async with asyncio.timeout(SECONDS):
                while len(found) < 11:
                    path = f"/v1/queues/{box.name}/receive"
                    got = (await caller.post(path, json={"wait": 10})).json()["notifications"]
                    for notification in got:
                        body = json.loads(notification["body"])
                        assert body["id"] not in found, "told twice"
                        found[body["id"]] = body["state"]
            assert found == states | {last: "failed"}
            receipts = await caller.get(
                f"/v1/queues/{box.name}/receipts", params={"outcome": "published", "limit": 1_000}
            )
            assert len(receipts.json()["receipts"]) == 11


async def test_events_on_any_node(nodes: tuple[Service, Service]) -> None:
    """Moved on on one and followed on the other, where those go on who have followed it on the one, which is killed."""
    one, two = nodes
    box = Mailbox(one)
    with contextlib.closing(box):
        id = make(box)["id"]
        async with (
            asyncio.timeout(SECONDS),
            two.async_caller(box.publisher_key) as caller,
            contextlib.aclosing(events(caller, id)) as stream,
        ):
            assert (await anext(stream))["id"] == "1"
            running = move(box, id, state="running")
            second = await anext(stream)
            assert (second["id"], second["data"]) == ("2", running)
            async with (
                one.async_caller(box.key) as another,
                contextlib.aclosing(events(another, id)) as lost,
            ):
                assert (await anext(lost))["id"] == "2"
                one.end(signal.SIGKILL)
                with pytest.raises(httpx.TransportError):
                    await anext(lost)
            missed = (await caller.patch(f"/v1/operations/{id}", json={"progress": 0.5})).json()
            assert (await anext(stream))["data"] == missed
            async with contextlib.aclosing(events(caller, id, last="2")) as back:
                assert (await anext(back))["data"] == missed
                asked = {"state": "succeeded"}
                ended = (await caller.patch(f"/v1/operations/{id}", json=asked)).json()
                for following in (stream, back):
                    assert (await anext(following))["data"] == ended
                    assert [one async for one in following] == []


def test_the_admin_key_may_all(server: Service, mailbox: Mailbox) -> None:
    id = make(mailbox)["id"]
    with server.caller(ADMIN_KEY) as admin:
        answer = admin.patch(f"/v1/operations/{id}", json={"state": "cancelled"})
        assert answer.json()["state"] == "cancelled"
