"""Waiting for signatures over HTTP and with the SDK, on servers that are killed, and from another node."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service, until_waited_for

from restante.client import Client
from restante.model import Publication
from restante.outcomes import Result

pytestmark = pytest.mark.timeout(120)


def path_of(box: Mailbox) -> str:
    return f"/v1/queues/{box.name}/notifications"


async def answered(box: Mailbox, verb: str, body: bytes = b"", **asked: Any) -> None:
    """The client of the mailbox takes one notification and says that of it."""

    def work() -> None:
        (one,) = box.receive(max=1, wait=20)
        if body:
            headers = {"Content-Type": "application/xml"}
            answer = box.client.post(
                f"/v1/leases/{one['lease']}/{verb}", content=body, headers=headers
            )
        else:
            answer = box.settle(one["lease"], verb, **asked)
        assert answer.status_code == 200, answer.text

    await asyncio.to_thread(work)


async def test_request_and_reply(server: Service, mailbox: Mailbox) -> None:
    async with server.async_caller(mailbox.publisher_key) as publisher:
        headers = {"Prefer": "wait=30", "Content-Type": "application/xml"}
        asking = asyncio.create_task(
            publisher.post(path_of(mailbox), content=b"<price/>", headers=headers)
        )
        await answered(mailbox, "ack", b"<price>9.90</price>")
        answer = await asking
    assert answer.status_code == 200, answer.text
    assert answer.headers["preference-applied"] == "wait=30"
    found = answer.json()
    (delivery,) = found["deliveries"]
    assert found["result"] == "met"
    assert delivery["reply"] == "<price>9.90</price>"
    assert delivery["reply_content_type"] == "application/xml"
    assert (delivery["outcome"], delivery["client"]) == ("acked", mailbox.name)
    receipt = mailbox.client.get(f"/v1/receipts/{delivery['receipt']}").json()
    assert (receipt["notification"], receipt["reply"]) == (found["id"], delivery["reply"])


async def test_a_reject_is_told_with_its_reason(server: Service, mailbox: Mailbox) -> None:
    async with server.async_caller(mailbox.publisher_key) as publisher:
        headers = {"Prefer": 'respond-async, WAIT="30"; x=y', "Restante-Require": "all"}
        asking = asyncio.create_task(
            publisher.post(path_of(mailbox), content=b"<price/>", headers=headers)
        )
        await answered(mailbox, "reject", reason="no such article")
        answer = await asking
    assert answer.status_code == 200, answer.text
    (delivery,) = answer.json()["deliveries"]
    assert answer.json()["result"] == "failed"
    told = (delivery["state"], delivery["outcome"], delivery["reason"], delivery["client"])
    assert told == ("dead", "rejected", "no such article", mailbox.name)


async def test_the_time_is_up_and_the_wait_goes_on(server: Service, mailbox: Mailbox) -> None:
    publisher = mailbox.publisher
    headers = {"Prefer": "wait=0", "Idempotency-Key": "k1"}
    answer = publisher.post(path_of(mailbox), content=b"<a/>", headers=headers)
    assert (answer.status_code, answer.json()["result"]) == (202, "pending")
    place = answer.headers["location"]
    assert place == f"/v1/notifications/{answer.json()['id']}"
    assert publisher.get(place).json()["result"] == "pending"
    async with server.async_caller(mailbox.publisher_key) as caller:
        going_on = asyncio.create_task(caller.get(place, params={"wait": 30, "require": "any"}))
        # A repeat with the same key waits for the same notification.
        headers["Prefer"] = "wait=30"
        repeated = asyncio.create_task(
            caller.post(path_of(mailbox), content=b"<a/>", headers=headers)
        )
        await answered(mailbox, "ack")
        assert (await going_on).json()["result"] == "met"
        replay = await repeated
    assert (replay.status_code, replay.headers["idempotency-replayed"]) == (200, "true")
    assert replay.json()["id"] == answer.json()["id"]
    assert publisher.get(place, params={"require": "2"}).json()["result"] == "failed"


@pytest.mark.parametrize(
    ("headers", "query", "status", "code"),
    [
        ({"Prefer": "wait=1", "Restante-Require": "most"}, None, 400, "malformed"),
        ({"Prefer": "wait=soon", "Restante-Require": "most"}, None, 400, "malformed"),
        ({}, {"wait": "61"}, 422, "out_of_bounds"),
        ({}, {"wait": "soon"}, 400, "malformed"),
        ({}, {"require": "most"}, 400, "malformed"),
        ({"Prefer": "wait=1", "Restante-Require": "0"}, None, 400, "malformed"),
        ({"Prefer": "wait=0", "Restante-Require": "2"}, None, 422, "invalid_header"),
    ],
)
def test_refused(
    mailbox: Mailbox, headers: dict[str, str], query: Any, status: int, code: str
) -> None:
    if query is None:
        answer = mailbox.publisher.post(path_of(mailbox), content=b"<a/>", headers=headers)
        assert mailbox.figures()["ready"] == 0, "what cannot be waited for is not published"
    else:
        published = mailbox.publish().json()["id"]
        answer = mailbox.publisher.get(f"/v1/notifications/{published}", params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_a_longer_wait_is_cut_and_said_so(mailbox: Mailbox) -> None:
    for longer in ("86400", "10000000000", "9" * 5_000):
        answer = mailbox.publisher.post(
            "/v1/topics/nobody.listens/notifications",
            content=b"<a/>",
            headers={"Prefer": f"wait={longer}"},
        )
        # Nobody has to sign, and so nothing is waited for.
        assert (answer.status_code, answer.json()["result"]) == (200, "met")
        assert answer.headers["preference-applied"] == "wait=60"


def test_what_is_not_a_wait_is_passed_over(mailbox: Mailbox) -> None:
    """Nor is one refused that cannot be read (RFC 7240, section 2)."""
    for prefer in (
        *("return=minimal", "waitress=1, wait-for-it", 'foo="a, wait=3"'),
        *("wait", "wait=soon", "wait=1.5", "wait=-1"),
    ):
        headers = {"Prefer": prefer}
        other = mailbox.publisher.post(path_of(mailbox), content=b"<a/>", headers=headers)
        assert other.status_code == 201
        assert "preference-applied" not in other.headers
        asked = {"timeout_seconds": 60, "members": [{"queue": mailbox.name, "body": "<a/>"}]}
        group = mailbox.publisher.post("/v1/groups", json=asked, headers=headers)
        assert (group.status_code, group.json()["state"]) == (202, "pending")
        assert "preference-applied" not in group.headers
    both = mailbox.publisher.post(
        "/v1/topics/nobody.listens/notifications",
        content=b"<a/>",
        headers=[("Prefer", "return=minimal"), ("Prefer", "wait=3")],
    )
    assert both.headers["preference-applied"] == "wait=3"


async def test_in_xml(server: Service, mailbox: Mailbox) -> None:
    async with server.async_caller(mailbox.publisher_key) as publisher:
        headers = {"Prefer": "wait=30", "Accept": "application/xml"}
        asking = asyncio.create_task(
            publisher.post(path_of(mailbox), content=b"<price/>", headers=headers)
        )
        await answered(mailbox, "ack", b"<price>9.90</price>")
        answer = await asking
    assert answer.headers["content-type"] == "application/xml"
    assert "<result>met</result>" in answer.text
    assert "<reply>&lt;price&gt;9.90&lt;/price&gt;</reply>" in answer.text


async def test_with_the_sdk(server: Service, mailbox: Mailbox) -> None:
    async with Client(server.url, mailbox.publisher_key) as client:
        # An attribute with a dot goes in a JSON envelope, and is waited for all the same.
        for attributes in ({}, {"a.b": "c"}):
            publication = Publication(queue=mailbox.name, body=b"<a/>", attributes=attributes)
            asking = asyncio.create_task(client.publish_and_wait(publication, wait_seconds=30))
            await answered(mailbox, "ack", b"\xff\x00")
            found = await asking
            assert found.result is Result.MET
            assert found.deliveries[0].reply_content == b"\xff\x00"
        publication = Publication(queue=mailbox.name, body=b"<a/>")
        pending = await client.publish_and_wait(publication, wait_seconds=0, require="any")
        assert pending.result is Result.PENDING
        going_on = asyncio.create_task(client.notification(pending.id, wait_seconds=30, require=1))
        await answered(mailbox, "reject", reason="closed")
        status = await going_on
        assert (status.result, status.deliveries[0].reason) == (Result.FAILED, "closed")


async def test_who_hangs_up_is_forgotten(own_server: Service, box: Mailbox) -> None:
    async with own_server.async_caller(box.publisher_key) as publisher:
        headers = {"Prefer": "wait=60"}
        asking = asyncio.create_task(publisher.post(path_of(box), content=b"<a/>", headers=headers))
        await until_waited_for(own_server, 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until_waited_for(own_server, 0)
    assert box.figures()["ready"] == 1, "it is published all the same"


async def test_a_wait_goes_on_after_a_killed_server(own_server: Service, box: Mailbox) -> None:
    async with own_server.async_caller(box.publisher_key) as publisher:
        asking = asyncio.create_task(
            publisher.post(path_of(box), content=b"<a/>", headers={"Prefer": "wait=60"})
        )
        await until_waited_for(own_server, 1)
        own_server.end(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            await asking
    own_server.start()
    (receipt,) = box.receipts(outcome="published")
    async with own_server.async_caller(box.publisher_key) as publisher:
        going_on = asyncio.create_task(
            publisher.get(f"/v1/notifications/{receipt['notification']}", params={"wait": 60})
        )
        await answered(box, "ack", b"<done/>")
        found = (await going_on).json()
    assert (found["result"], found["deliveries"][0]["reply"]) == ("met", "<done/>")


async def test_a_stop_answers_who_waits(own_server: Service, box: Mailbox) -> None:
    async with own_server.async_caller(box.publisher_key) as publisher:
        asking = asyncio.create_task(
            publisher.post(path_of(box), content=b"<a/>", headers={"Prefer": "wait=60"})
        )
        await until_waited_for(own_server, 1)
        assert await asyncio.to_thread(own_server.end, signal.SIGTERM) == 0
        answer = await asking
    assert (answer.status_code, answer.json()["result"]) == (202, "pending")
    own_server.start()


async def test_from_any_node(nodes: tuple[Service, Service]) -> None:
    """Published and waited for on one, signed on the other; and waited for on the other when the one is killed."""
    one, two = nodes
    box = Mailbox(one)
    box.client.close()
    box.client = two.caller(box.key)
    async with one.async_caller(ADMIN_KEY) as publisher, two.async_caller(ADMIN_KEY) as other:
        asking = asyncio.create_task(
            publisher.post(path_of(box), content=b"<a/>", headers={"Prefer": "wait=60"})
        )
        await answered(box, "ack", b"<from-two/>")
        found = (await asking).json()
        assert (found["result"], found["deliveries"][0]["reply"]) == ("met", "<from-two/>")
        answer = await publisher.post(path_of(box), content=b"<a/>", headers={"Prefer": "wait=0"})
        place = answer.headers["location"]
        one.end(signal.SIGKILL)
        going_on = asyncio.create_task(other.get(place, params={"wait": 60}))
        await answered(box, "reject", reason="no")
        assert (await going_on).json()["result"] == "failed"
    box.close()


async def test_the_page_can_be_pasted_into_a_shell(
    server: Service, mailbox: Mailbox, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "waiting.md").read_text()
    publishing, looking, group = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)

    async def pasted(block: str, **given: str) -> Any:
        for name in ("acme", "stock", "payments", "newsletter"):
            block = re.sub(rf"\b{name}\b", mailbox.name, block)
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", block),
            cwd=tmp_path,
            env={
                "URL": server.url,
                "KEY": mailbox.publisher_key,
                "PATH": os.environ["PATH"],
                **given,
            },
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await shell.communicate()
        assert shell.returncode == 0, output
        return json.loads(output)

    published = asyncio.create_task(pasted(publishing))
    await answered(mailbox, "ack", b"<price>9.90</price>")
    found = await published
    assert found["deliveries"][0]["reply"] == "<price>9.90</price>"
    assert (await pasted(looking, ID=found["id"]))["result"] == "met"
    published = asyncio.create_task(pasted(group))
    for _ in range(3):
        await answered(mailbox, "ack")
    assert (await published)["state"] == "complete"
