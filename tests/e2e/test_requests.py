"""Requests that count once over HTTP and with the SDK, on servers that are killed in the middle, and on two nodes."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service

from restante.client import Client
from restante.errors import IdempotencyKeyReused, RequestNotFound

pytestmark = pytest.mark.timeout(120)
REPLAYED: Final = "idempotency-replayed"


def post(http: httpx.Client, path: str, key: str, **asked: Any) -> httpx.Response:
    return http.post(path, headers={"idempotency-key": key}, json=asked)


def test_a_repeat_is_given_the_first_answer_also_after_a_kill(own_server: Service) -> None:
    with own_server.caller() as admin:
        made = post(admin, "/v1/clients", '"onboarding"', name="fresh")
        assert (made.status_code, made.headers.get(REPLAYED)) == (201, None)
        refused = post(admin, "/v1/keys", "no-such-client", role="client", name="nobody")
        assert refused.status_code == 404
    assert own_server.end(signal.SIGKILL) == -signal.SIGKILL
    # The answer shows a key of the client's: nobody may read it in the store.
    for path in own_server.data.glob("*"):
        if path.is_file():
            assert made.json()["key"].encode() not in path.read_bytes(), path
    own_server.start()
    with own_server.caller() as admin:
        again = post(admin, "/v1/clients", "onboarding", name="fresh")
        assert (again.status_code, again.json()) == (201, made.json())
        assert again.headers[REPLAYED] == "true"
        # Without the key it is another request.
        assert admin.post("/v1/clients", json={"name": "fresh"}).status_code == 409
        other = post(admin, "/v1/clients", "onboarding", name="stale")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        # What was refused did nothing: the key is free, for whatever.
        assert admin.get("/v1/requests/no-such-client").status_code == 404
        again = post(admin, "/v1/clients", "no-such-client", name="nobody")
        assert (again.status_code, again.headers.get(REPLAYED)) == (201, None)
        told = admin.get("/v1/requests/onboarding").json()
        assert (told["state"], told["status"], told["path"]) == ("done", 201, "/v1/clients")
        assert "body" not in told
        told = admin.get("/v1/requests/no-such-client").json()
        assert (told["state"], told["status"]) == ("done", 201)
        with own_server.caller(made.json()["key"]) as client:
            assert client.get("/v1/requests/onboarding").status_code == 404
            asked = {"principal": "admin/admin"}
            assert client.get("/v1/requests/onboarding", params=asked).status_code == 403


def test_each_call_takes_a_key_or_says_why_not(mailbox: Mailbox) -> None:
    box = mailbox
    batch = {"notifications": [{"queue": box.name, "body": "<a/>"}]}
    first = post(box.publisher, "/v1/notifications", "batch", **batch)
    again = post(box.publisher, "/v1/notifications", "batch", **batch)
    assert (again.json(), again.headers[REPLAYED]) == (first.json(), "true")
    assert box.figures()["published"] == 1
    principal = {"principal": f"publisher/for-{box.name}"}
    told = box.admin.get("/v1/requests/batch", params=principal).json()
    assert told["body"] == first.text
    post(box.publisher, "/v1/notifications", "a/key //of?paths", **batch)
    told = box.publisher.get("/v1/requests/a%2Fkey%20%2F%2Fof%3Fpaths").json()
    assert (told["state"], told["key"]) == ("done", "a/key //of?paths")
    made = box.publisher.post(
        f"/v1/queues/{box.name}/notifications", headers={"idempotency-key": "one"}, content=b"<a/>"
    )
    for http, asked in ((box.publisher, {}), (box.admin, principal)):
        told = http.get("/v1/requests/one", params=asked).json()
        assert (told["state"], told["notification"]) == ("done", made.json()["id"])
    assert box.client.get("/v1/requests/one").status_code == 404
    # Of the same name, and another principal.
    namesake = {"role": "publisher", "name": box.name}
    key = box.admin.post("/v1/keys", json=namesake).json()["key"]
    with box.service.caller(key) as publisher:
        hidden = f"commande-\u00e9-{box.name}"
        headers = {b"idempotency-key": hidden.encode()}
        path = f"/v1/queues/{box.name}/notifications"
        assert publisher.post(path, headers=headers, content=b"<a/>").status_code == 201
        assert publisher.get(f"/v1/requests/{hidden}").json()["state"] == "done"
        assert box.client.get(f"/v1/requests/{hidden}").status_code == 404
        asked = {"principal": f"client/{box.name}"}
        assert box.admin.get(f"/v1/requests/{hidden}", params=asked).status_code == 404
        # An administrator's keys are its own, too.
        assert box.admin.post(path, headers=headers, content=b"<b/>").status_code == 201
    for path in ("receive", "next"):
        refused = post(box.client, f"/v1/queues/{box.name}/{path}", "once")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_header")
    one, *_ = box.receive()
    for _ in range(2):
        assert post(box.client, f"/v1/leases/{one['lease']}/ack", "once").status_code == 200
    for principal_ in ("shop", "nobody/shop"):
        asked = {"principal": principal_}
        assert box.admin.get("/v1/requests/batch", params=asked).status_code == 400


@pytest.mark.parametrize("made", ["group", "operation"])
async def test_of_a_group_and_an_operation_it_is_told_which(
    server: Service, mailbox: Mailbox, made: str
) -> None:
    box = mailbox
    members = [{"queue": box.name, "body": "<a/>"}]
    asked: dict[str, Any] = {"group": {"timeout_seconds": 60, "members": members}, "operation": {}}
    answers = [post(box.publisher, f"/v1/{made}s", f"a/{made}", **asked[made]) for _ in range(2)]
    assert [one.headers.get(REPLAYED) for one in answers] == [None, "true"]
    first, again = [one.json() for one in answers]
    assert first == again
    principal = f"publisher/for-{box.name}"
    async with (
        Client(server.url, box.publisher_key) as publisher,
        Client(server.url, ADMIN_KEY) as admin,
        Client(server.url, box.key) as client,
    ):
        for told in (
            await publisher.request(f"a/{made}"),
            await admin.request(f"a/{made}", principal=principal),
        ):
            assert (told.state, getattr(told, made), told.notification) == (
                "done",
                first["id"],
                None,
            )
        for stranger in (admin, client):
            with pytest.raises(RequestNotFound):
                await stranger.request(f"a/{made}")
        with pytest.raises(RequestNotFound):
            await publisher.request(f"b/{made}")


async def test_with_the_sdk(server: Service) -> None:
    async with Client(server.url, ADMIN_KEY) as client:
        first = await client.add_client("by-sdk", idempotency_key="sdk-1")
        assert await client.add_client("by-sdk", idempotency_key="sdk-1") == first
        with pytest.raises(IdempotencyKeyReused):
            await client.add_client("by-sdk-2", idempotency_key="sdk-1")
        told = await client.request("sdk-1")
        assert (told.state, told.status) == ("done", 201)
        with pytest.raises(RequestNotFound):
            await client.request("sdk-2")


def test_refused_requests_do_not_fill_the_store(own_server: Service) -> None:
    own_server.end(signal.SIGTERM)
    own_server.flags = (*own_server.flags, "--idempotency-keys-per-principal", "2")
    own_server.start()
    with own_server.caller() as admin:
        for number in range(5):
            path = "/v1/queues/none/dead/redrive"
            assert post(admin, path, f"refused-{number}", all=True).status_code == 404
            assert post(admin, "/v1/clients", f"malformed-{number}").status_code == 400
        for number in range(2):
            assert post(admin, "/v1/clients", f"k{number}", name=f"n{number}").status_code == 201
        refused = post(admin, "/v1/clients", "k2", name="n2")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_kept_requests")
        assert admin.get("/v1/queues/n2").status_code == 404
        assert post(admin, "/v1/clients", "k1", name="n1").headers[REPLAYED] == "true"


def begun_only(data: Path) -> None:
    """Take back what came of every request: as if the process had been killed after the work and before its record."""
    from restante.idempotency import State, decode_record, encode_record

    (file,) = data.glob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT key, content FROM papers WHERE kind = 'request'").fetchall()
        assert rows
        for key, content in rows:
            record = decode_record(content)
            record = type(record)(
                method=record.method,
                path=record.path,
                fingerprint=record.fingerprint,
                state=State.IN_PROGRESS,
                run=record.run,
                since_ms=record.since_ms,
            )
            database.execute(
                "UPDATE papers SET content = ? WHERE kind = 'request' AND key = ?",
                (encode_record(record), key),
            )
    database.close()


@pytest.mark.parametrize("policy", ["refuse", "run_again"])
def test_after_a_crash_in_the_middle_the_policy_decides(own_server: Service, policy: str) -> None:
    with own_server.caller() as admin:
        assert post(admin, "/v1/clients", "crashed", name=f"made-{policy}").status_code == 201
    assert own_server.end(signal.SIGKILL) == -signal.SIGKILL
    begun_only(own_server.data)
    own_server.flags = (*own_server.flags, "--unknown-requests", policy)
    own_server.start()
    with own_server.caller() as admin:
        assert admin.get("/v1/requests/crashed").json()["state"] == "unknown"
        again = post(admin, "/v1/clients", "crashed", name=f"made-{policy}")
        if policy == "refuse":
            assert again.json()["code"] == "request_unknown"
            assert "was begun at" in again.json()["detail"]
        else:
            # It had been done: run again, it says so.
            assert again.json()["code"] == "already_exists"
            assert REPLAYED not in again.headers


async def test_a_node_killed_in_the_middle_leaves_word_for_the_other(
    database: str, nodes: tuple[Service, Service]
) -> None:
    """The database holds the work up, so that the node is killed after the request has begun and before its end."""
    doomed, other = nodes
    box = Mailbox(other)
    asked: Any = {"headers": {"idempotency-key": "held-up"}, "json": {"name": "held-up"}}
    async with doomed.async_caller(ADMIN_KEY) as admin, other.async_caller(ADMIN_KEY) as looking:
        with psycopg.connect(database) as connection:
            connection.execute("LOCK TABLE restante.clients IN EXCLUSIVE MODE")
            first = asyncio.create_task(admin.post("/v1/clients", **asked))
            while (await looking.get("/v1/requests/held-up")).status_code == 404:
                assert not first.done()
            assert doomed.end(signal.SIGKILL) == -signal.SIGKILL
            with pytest.raises(httpx.TransportError):
                await first
            again = await looking.post("/v1/clients", **asked)
            assert (again.status_code, again.json()["code"]) == (409, "request_in_progress")
        # Until the node is taken for dead: each round waits a second for a notification that never comes.
        while (await looking.get("/v1/requests/held-up")).json()["state"] == "in_progress":
            assert box.receive(wait=1) == []
        for _ in range(2):
            again = await looking.post("/v1/clients", **asked)
            assert (again.status_code, again.json()["code"]) == (409, "request_unknown")
        answer = await looking.get("/v1/clients", params={"limit": "1000"})
        assert [client["name"] for client in answer.json()["clients"]].count("held-up") <= 1
    box.close()


async def test_two_nodes_do_each_once(nodes: tuple[Service, Service]) -> None:
    box = Mailbox(nodes[0])
    batch = {"notifications": [{"queue": box.name, "body": "<a/>"}]}
    async with (
        nodes[0].async_caller(box.publisher_key) as one,
        nodes[1].async_caller(box.publisher_key) as two,
    ):

        async def ask(http: httpx.AsyncClient, number: int) -> httpx.Response:
            headers = {"idempotency-key": f"batch-{number}"}
            while True:
                answer = await http.post("/v1/notifications", headers=headers, json=batch)
                if answer.status_code != 409:
                    return answer
                assert answer.json()["code"] == "request_in_progress"

        for number in range(20):
            answers = await asyncio.gather(*(ask(http, number) for http in (one, two) * 3))
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.text for answer in answers}) == 1
            assert Counter(answer.headers.get(REPLAYED) for answer in answers) == {
                None: 1,
                "true": 5,
            }
    assert box.figures()["published"] == 20
    box.close()
