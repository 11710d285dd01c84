"""Webhooks against real endpoints: good ones, bad ones, and what their owner sees."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
import standardwebhooks
import svix
import trustme
from tests.e2e.conftest import Service
from tests.e2e.hooks import (
    Hooked,
    answers,
    hooked,
    next_call,
    read_call,
    receiving,
    rogue,
    starts,
)

from restante.model import REPLY_BYTES
from restante.testing.transports.drivers.webhook import delivered_of

XML = '<?xml version="1.0"?><order name="Bodø"/>'.encode()


@pytest.fixture
async def one(server: Service) -> AsyncIterator[Hooked]:
    async with hooked(server) as one:
        yield one


# -- what is sent, and signed -------------------------------------------------------------------


async def test_a_call_has_all_that_next_has_and_the_client_s_own_headers(one: Hooked) -> None:
    async with receiving() as (receiver, url):
        await one.set(f"{url}?a=1&b=%20", headers={"Authorization": "Bearer x"})
        (id,) = await one.publish(XML, **{"ce-type": "order", "restante-ordering-key": "k"})
        call = await next_call(receiver)
        assert call.target == "/inbox?a=1&b=%20"
        assert call.body == XML
        headers = dict(call.headers)
        assert headers["host"] == f"127.0.0.1:{receiver.port}"
        assert headers["authorization"] == "Bearer x"
        assert headers["user-agent"].startswith("Restante/")
        assert (headers["webhook-id"], headers["restante-id"]) == (id, id)
        assert (headers["restante-seq"], headers["restante-attempt"]) == ("1", "1")
        assert (headers["ce-type"], headers["restante-ordering-key"]) == ("order", "k")
        assert headers["content-type"] == "application/xml"
        assert {"restante-published-at", "restante-lease-until", "restante-lease"} <= set(headers)
        await receiver.answer(call, 202, b"<booked/>", content_type="text/xml")
        (receipt,) = await one.receipts("acked")
        assert (receipt["reply"], receipt["reply_content_type"]) == ("<booked/>", "text/xml")
        assert receipt["remote_address"] == f"127.0.0.1:{receiver.port}"


async def test_calls_share_a_connection(one: Hooked) -> None:
    async with receiving() as (receiver, url):
        await one.set(url, concurrency=1)
        await one.publish(b"1", b"2", b"3")
        for _ in range(3):
            await receiver.answer(await next_call(receiver), 204)
        await one.receipts("acked", 3)
        assert receiver.connections == 1


@pytest.mark.parametrize("payload", ["body", "json"])
async def test_both_verifiers_verify_while_secrets_rotate(one: Hooked, payload: str) -> None:
    async with receiving() as (receiver, url):
        first = (await one.set(url, payload=payload))["secret"]
        second = (await one.post("secrets"))["secret"]
        assert first != second
        await one.publish(XML)
        call = await next_call(receiver)
        headers = dict(call.headers)
        for secret in (first, second):
            svix.Webhook(secret).verify(call.body, headers)
            verified = standardwebhooks.Webhook(secret).verify(
                call.body, headers, json_parse=payload == "json"
            )
            if payload == "json":
                assert (verified["body"], verified["content_type"]) == (
                    XML.decode(),
                    "application/xml",
                )
        webhook = await one.get()
        assert "secret" not in webhook
        new, old = webhook["secrets"]
        assert new["ends_at"] is None
        assert old["ends_at"] is not None
        refused = await one.http.post(f"{one.path}/secrets")
        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_secrets")
        ended = await one.http.delete(f"{one.path}/secrets/{old['id']}")
        assert ended.status_code == 204
        refused = await one.http.delete(f"{one.path}/secrets/{new['id']}")
        assert (refused.status_code, refused.json()["code"]) == (409, "last_secret")
        await receiver.answer(call, 500)
        again = await next_call(receiver)
        svix.Webhook(second).verify(again.body, dict(again.headers))
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            svix.Webhook(first).verify(again.body, dict(again.headers))
        await receiver.answer(again, 200)


# -- endpoints that do not do well --------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
BAD = {
    "hangs": (starts(b""), "timed out after 1 s"),
    "stops in its head": (starts(HEAD[:-2]), "timed out after 1 s"),
    "stops in its body": (starts(HEAD + b"x" * 10), "timed out after 1 s"),
    "stops in a chunk": (
        starts(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nx"),
        "timed out after 1 s",
    ),
    "hangs up": (answers(b""), "connection closed"),
    "hangs up in its body": (answers(HEAD + b"x"), "connection closed"),
    "speaks no HTTP": (answers(b"220 mail.example ESMTP\r\n\r\n"), "not an answer in HTTP"),
    "has a head without end": (
        answers(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 10_000 + b"\r\n"),
        "not an answer in HTTP",
    ),
    "has a huge header": (
        answers(b"HTTP/1.1 200 OK\r\nx-a: " + b"b" * 100_000 + b"\r\n\r\n"),
        "not an answer in HTTP",
    ),
    "fails": (answers(b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"), "HTTP 500"),
    "redirects nowhere": (answers(b"HTTP/1.1 301 Moved\r\ncontent-length: 0\r\n\r\n"), "HTTP 301"),
}


@pytest.mark.parametrize(("conduct", "reason"), BAD.values(), ids=BAD)
async def test_a_bad_endpoint_is_told_by_its_reason(one: Hooked, conduct, reason: str) -> None:
    async with rogue(conduct) as (endpoint, url):
        await one.set(url, timeout_seconds=1)
        await one.publish(b"1")
        first = (await one.receipts("nacked"))[0]
        assert first["reason"] == reason
        await endpoint.until(lambda: endpoint.ended >= 1)
        seen = await one.get()
        assert (seen["state"], seen["last_error"]) == ("enabled", reason)
        assert seen["consecutive_failures"] >= 1
        # Whatever it did: the notification is there, for whoever collects it otherwise.
        await one.http.delete(one.path)
        figures = await one.figures()
        assert figures["acked"] == figures["dead"] == 0


async def test_nobody_there(one: Hooked) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await one.set(f"http://127.0.0.1:{closed.getsockname()[1]}/")
        await one.publish(b"1")
        receipts = await one.receipts("nacked", 5)
        assert {one["reason"] for one in receipts} == {"connection refused"}
        seen = await one.get()
        assert seen["circuit"] in {"open", "half_open"}


async def test_a_name_that_is_none(one: Hooked) -> None:
    await one.set("https://nobody.invalid/")
    await one.publish(b"1")
    assert (await one.receipts("nacked"))[0]["reason"] == "name not resolved"


async def test_what_is_answered_in_place_of_signing_is_in_the_history(one: Hooked) -> None:
    answer = b"HTTP/1.1 500 Oh no\r\ncontent-length: 70000\r\nx-trace: 7\r\n\r\n" + b"e" * 70_000
    async with rogue(answers(answer)) as (_, url):
        await one.queue(max_attempts=1)
        await one.set(url)
        await one.publish(b"1")
        (receipt,) = await one.receipts("nacked")
        assert receipt["reply_content_type"] == "message/http"
        head, _, body = receipt["reply"].partition("\r\n\r\n")
        assert head == "HTTP/1.1 500 Oh no\r\ncontent-length: 70000\r\nx-trace: 7"
        assert body == "e" * 4_096
        dead = (await one.http.get(f"/v1/queues/{one.name}/dead")).json()["dead"]
        assert dead[0]["reason"] == "HTTP 500"
        assert dead[0]["history"][-1]["reply"] == receipt["reply"]


@pytest.mark.parametrize("size", [REPLY_BYTES, REPLY_BYTES + 1, 3_000_000])
async def test_of_a_huge_answer_64_kib_are_kept(one: Hooked, size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"r" * size
    async with rogue(answers(answer)) as (endpoint, url):
        await one.set(url)
        await one.publish(b"1")
        (receipt,) = await one.receipts("acked")
        assert receipt["reply"] == "r" * REPLY_BYTES
        await endpoint.until(lambda: endpoint.ended == 1)


async def test_an_answer_without_end_is_cut(one: Hooked) -> None:
    sent = 0

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_call(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"s" * 65_536)
            await writer.drain()
            sent += 65_536

    async with rogue(stream) as (endpoint, url):
        await one.set(url)
        await one.publish(b"1")
        (receipt,) = await one.receipts("acked")
        assert receipt["reply"] == "s" * REPLY_BYTES
        await endpoint.until(lambda: endpoint.ended == 1)
        # What the kernels of both sides hold, and no more.
        assert sent < 32 * 1024 * 1024


async def test_a_compressed_bomb_is_not_unfolded(one: Hooked) -> None:
    import gzip

    bomb = gzip.compress(bytes(20_000_000))
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    async with rogue(answers(head + bomb)) as (_, url):
        await one.set(url)
        await one.publish(b"1")
        (receipt,) = await one.receipts("acked")
        assert len(receipt["reply_base64"]) < 2 * len(bomb)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_inside_is_not_followed(one: Hooked, status: int) -> None:
    async with rogue(answers(b"")) as (inside, target):
        answer = f"HTTP/1.1 {status} Over there\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n"
        async with rogue(answers(answer.encode())) as (_, url):
            await one.set(url)
            await one.publish(b"1")
            receipts = await one.receipts("nacked", 5)
            assert {one["reason"] for one in receipts} == {f"HTTP {status}"}
        assert inside.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]:7071/",
        "https://[::ffff:10.0.0.1]/",
        "http://example.com/",
        "http://10.0.0.1/",
        "https://user@example.com/",
        "https://0x7f.1/",
        "https://example.com:25/",
        "https://[fe80::1%25eth0]/",
        "ftp://example.com/",
    ],
)
async def test_urls_that_are_refused(one: Hooked, url: str) -> None:
    answer = await one.http.put(one.path, json={"url": url})
    # http to a name may be what the operator allows: that is seen when it is called.
    if url == "http://example.com/":
        assert answer.status_code == 201
        return
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_url"), answer.text
    assert (await one.http.get(one.path)).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [{"Host": "x"}, {"Content-Length": "0"}, {"webhook-id": "x"}, {"x": "a\r\nhost: b"}, {"": ""}],
)
async def test_headers_that_are_refused(one: Hooked, headers: dict[str, str]) -> None:
    answer = await one.http.put(one.path, json={"url": "https://a.example/", "headers": headers})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_header")


async def test_a_certificate_that_nobody_trusts(one: Hooked) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with rogue(answers(b""), tls=context) as (_, url):
        await one.set(url)
        await one.publish(b"1")
        receipts = await one.receipts("nacked", 1)
        assert receipts[0]["reason"] == "certificate not trusted"


async def test_plain_text_where_tls_was_asked_for(one: Hooked) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with rogue(plain) as (_, url):
        await one.set(url.replace("http:", "https:"))
        await one.publish(b"1")
        assert (await one.receipts("nacked"))[0]["reason"] == "TLS failed"


# -- what the owner sees and does ---------------------------------------------------------------


async def test_410_disables_and_its_owner_sees_it(one: Hooked) -> None:
    async with receiving() as (receiver, url):
        await one.set(url, concurrency=1)
        ids = await one.publish(b"1", b"2")
        await receiver.answer(await next_call(receiver), 410)
        await one.receipts("released")
        async with asyncio.timeout(10):
            # Its circuit goes with who called it, a moment later.
            while (seen := await one.get())["state"] == "enabled" or "circuit" in seen:
                pass
        assert seen["reason"] == "HTTP 410"
        assert (await one.figures())["ready"] == 2
        await one.post("enable")
        calls = []
        for _ in ids:
            calls.append(await next_call(receiver))
            await receiver.answer(calls[-1], 200)
        assert {delivered_of(call).id for call in calls} == set(ids)
        assert {delivered_of(call).attempt for call in calls} == {1}
        await one.receipts("acked", 2)


async def test_disabled_while_notifications_pile_up_nothing_is_lost(one: Hooked) -> None:
    async with receiving() as (receiver, url):
        await one.set(url, concurrency=10)
        assert (await one.post("disable", reason="we move house"))["reason"] == "we move house"
        ids = await one.publish(*[b"%d" % number for number in range(200)])
        assert receiver.connections == 0
        assert (await one.figures())["ready"] == 200
        await one.post("enable")
        got = []
        for _ in ids:
            call = await next_call(receiver)
            got.append(delivered_of(call))
            await receiver.answer(call, 200)
        assert {delivered.id for delivered in got} == set(ids)
        assert {delivered.attempt for delivered in got} == {1}
        await one.receipts("acked", 200)
        assert (await one.figures())["acked"] == 200


async def test_a_pause_that_was_asked_for_is_kept(one: Hooked) -> None:
    async with receiving() as (receiver, url):
        await one.set(url, concurrency=1)
        await one.publish(b"1", b"2")
        loop = asyncio.get_running_loop()
        await receiver.answer(await next_call(receiver), 429, retry_after="2")
        asked = loop.time()
        seen = await one.get()
        assert seen["circuit"] == "open"
        await next_call(receiver)
        assert loop.time() - asked >= 1.9


async def test_a_ping_says_what_went_wrong(one: Hooked) -> None:
    async with receiving() as (receiver, url):
        secret = (await one.set(url))["secret"]
        await one.post("disable")
        for status, reason in ((204, None), (500, "HTTP 500")):
            pinging = asyncio.create_task(one.post("ping"))
            call = await next_call(receiver)
            assert call.headers["restante-ping"] == "true"
            assert json.loads(call.body)["type"] == "restante.ping"
            standardwebhooks.Webhook(secret).verify(call.body, dict(call.headers))
            await receiver.answer(call, status)
            pinged = await pinging
            assert (pinged["ok"], pinged["status"]) == (status == 204, status)
            assert pinged.get("reason") == reason
            assert pinged["duration_ms"] >= 0
    pinged = await one.post("ping")
    assert (pinged["ok"], pinged["reason"]) == (False, "connection refused")
    assert (await one.figures())["published"] == 0


async def test_secrets_and_headers_are_nowhere_to_be_read(one: Hooked, server: Service) -> None:
    canary = "canary-of-the-header"
    secret = (await one.set("https://127.0.0.1:1024/", headers={"x-canary": canary}))["secret"]
    seen = await one.http.get(one.path)
    assert seen.json()["header_names"] == ["x-canary"]
    assert canary not in seen.text
    import base64

    raw = base64.b64decode(secret.removeprefix("whsec_"))
    kept = b"".join(path.read_bytes() for path in server.data.glob("restante.db*"))
    for needle in (canary.encode(), raw, base64.b64encode(raw), secret.encode()):
        assert needle not in kept
        assert needle.decode("latin-1") not in server.log()


async def test_in_xml_too(one: Hooked) -> None:
    xml = {"content-type": "application/xml", "accept": "application/xml"}
    answer = await one.http.put(
        one.path,
        content="<webhook><url>https://127.0.0.1:1024/</url><headers>"
        "<entry name='x-tenant'>a</entry></headers><concurrency>2</concurrency></webhook>",
        headers=xml,
    )
    assert answer.status_code == 201, answer.text
    assert "<secret>whsec_" in answer.text
    assert "<header_names><item>x-tenant</item></header_names>" in answer.text
    answer = await one.http.get(one.path, headers=xml)
    assert "<concurrency>2</concurrency>" in answer.text
    assert "<secrets><item><id>whs-" in answer.text


async def test_a_publisher_has_no_business_here(one: Hooked) -> None:
    await one.set("https://127.0.0.1:1024/")
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/ping")):
        answer = one.box.publisher.request(method, f"{one.path}{path}")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
