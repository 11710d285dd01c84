"""The way of a notification over HTTP, from the publisher to the signed receipt."""

from __future__ import annotations

import hashlib
import signal
import socket

import pytest
from tests.e2e.conftest import Mailbox, Service, raw_post

from restante.wire.receipts import GENESIS, receipt_digest

BODIES = {
    "utf-8": ("application/xml", '<?xml version="1.0"?><a>ä€</a>'.encode()),
    "utf-16 with BOM": ("application/xml; charset=utf-16", "<a>ä€</a>".encode("utf-16")),
    "iso-8859-1": (
        "text/xml; charset=iso-8859-1",
        '<?xml version="1.0" encoding="ISO-8859-1"?><a>ä</a>'.encode("iso-8859-1"),
    ),
    "doctype and cdata": (
        "application/xml",
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;<![CDATA[<b>]]>\r\n</a>',
    ),
    "binary": ("application/octet-stream", bytes(range(256))),
    "empty": ("application/xml", b""),
    "one MiB": ("application/xml", b"<a>" + b"x" * (1024 * 1024 - 7) + b"</a>"),
    "not a word of XML": ("application/xml", b"\x00<<<&&&"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_comes_back_byte_for_byte_with_its_content_type(mailbox: Mailbox, kind: str) -> None:
    content_type, body = BODIES[kind]
    assert mailbox.publish(body, content_type=content_type).status_code == 201
    answer = mailbox.client.post(f"/v1/queues/{mailbox.name}/next?wait=0")
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["content-type"] == content_type
    status = mailbox.client.get(f"/v1/notifications/{answer.headers['restante-id']}").json()
    assert status["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert status["body_bytes"] == len(body)


def test_receipts_record_who_signed_for_what_and_verify(mailbox: Mailbox) -> None:
    published = mailbox.publish(b"<order id='7'/>", ce_type="order").json()
    assert published["deliveries"] == [{"queue": mailbox.name, "seq": 1}]
    (notification,) = mailbox.receive()
    assert notification["id"] == published["id"]
    assert notification["attributes"] == {"ce-type": "order"}
    answer = mailbox.client.post(
        f"/v1/leases/{notification['lease']}/ack",
        content=b"<booked/>",
        headers={"content-type": "application/xml"},
    )
    assert answer.json()["receipt"] == f"{mailbox.name}~2"

    made, signed = mailbox.receipts()
    assert (made["outcome"], made["principal"]) == ("published", f"for-{mailbox.name}")
    expected = {
        "outcome": "acked",
        "state": "acked",
        "principal": mailbox.name,
        "key_id": mailbox.key.split("_")[1],
        "transport": "http",
        "attempt": 1,
        "fence": 1,
        "seq": 1,
        "notification": published["id"],
        "reply": "<booked/>",
        "reply_content_type": "application/xml",
        "body_sha256": hashlib.sha256(b"<order id='7'/>").hexdigest(),
    }
    assert {name: signed[name] for name in expected} == expected
    assert str(signed["remote_address"]).startswith("127.0.0.1:")
    assert signed["published_at"] <= signed["leased_at"] <= signed["at"]
    digest = GENESIS
    for receipt in (made, signed):
        digest = receipt_digest(digest, receipt)
        assert receipt["digest"] == digest.hex()
    assert mailbox.client.get(f"/v1/receipts/{signed['id']}").json() == signed

    status = mailbox.publisher.get(f"/v1/notifications/{published['id']}").json()
    (delivery,) = status["deliveries"]
    assert (delivery["state"], delivery["client"], delivery["reply"]) == (
        "acked",
        mailbox.name,
        "<booked/>",
    )


def test_every_verb_leads_where_the_lifecycle_says(mailbox: Mailbox) -> None:
    mailbox.settings(backoff_base_seconds=0)
    for _ in range(5):
        mailbox.publish()
    leases = [n["lease"] for n in mailbox.receive(max=5)]
    outcomes = [
        mailbox.settle(leases[0], "ack").json(),
        mailbox.settle(leases[1], "nack", reason="later", retry_after=60).json(),
        mailbox.settle(leases[2], "reject", reason="poison").json(),
        mailbox.settle(leases[3], "release").json(),
        mailbox.settle(leases[4], "extend", lease=120).json(),
    ]
    assert [(o["outcome"], o["state"]) for o in outcomes] == [
        ("acked", "acked"),
        ("nacked", "scheduled"),
        ("rejected", "dead"),
        ("released", "ready"),
        ("extended", "leased"),
    ]
    figures = mailbox.figures()
    states = ("acked", "scheduled", "dead", "ready", "leased")
    assert [figures[state] for state in states] == [1, 1, 1, 1, 1]
    assert figures["published"] == 5
    # The released one comes again, its attempt not counted; the fence has risen all the same.
    (again,) = mailbox.receive()
    assert (again["seq"], again["attempt"]) == (4, 1)


def test_a_repeated_settle_answers_as_the_first_and_a_lost_lease_says_so(mailbox: Mailbox) -> None:
    mailbox.publish()
    (notification,) = mailbox.receive()
    first = mailbox.settle(notification["lease"], "ack")
    assert mailbox.settle(notification["lease"], "ack").json() == first.json()
    lost = mailbox.settle(notification["lease"], "nack")
    assert (lost.status_code, lost.json()["code"]) == (409, "lease_lost")


def test_an_idempotency_key_counts_once(mailbox: Mailbox) -> None:
    first = mailbox.publish(b"<a/>", idempotency_key="k-1")
    again = mailbox.publish(b"<a/>", idempotency_key='"k-1"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = mailbox.publish(b"<b/>", idempotency_key="k-1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert mailbox.figures()["published"] == 1


def test_a_topic_reaches_its_subscribers_by_pattern_and_filter(server: Service) -> None:
    boxes = [Mailbox(server) for _ in range(3)]
    prefix = boxes[0].name
    for box, pattern, condition in (
        (boxes[0], f"{prefix}.*.eu", {}),
        (boxes[1], f"{prefix}.#", {"region": ["eu", "us"]}),
        (boxes[2], f"{prefix}.invoice.eu", {}),
    ):
        made = box.admin.post(
            "/v1/subscriptions", json={"pattern": pattern, "queue": box.name, "filter": condition}
        )
        assert made.status_code == 201, made.text
    answer = boxes[0].publisher.post(
        f"/v1/topics/{prefix}.order.eu/notifications",
        content=b"<order/>",
        headers={"content-type": "application/xml", "restante-attribute-region": "eu"},
    )
    assert [d["queue"] for d in answer.json()["deliveries"]] == sorted([prefix, boxes[1].name])
    assert len(boxes[2].receive()) == 0
    (notification,) = boxes[1].receive()
    assert (notification["topic"], notification["body"]) == (f"{prefix}.order.eu", "<order/>")
    for box in boxes:
        box.close()


def test_a_batch_does_its_good_items_and_names_the_bad(mailbox: Mailbox) -> None:
    items: list[dict[str, object]] = [
        {"queue": mailbox.name, "body": "<a/>", "content_type": "application/xml"},
        {"queue": "no-such-queue", "body": "<a/>"},
        {"queue": mailbox.name, "body": "a", "body_base64": "YQ=="},
        {"queue": mailbox.name, "body_base64": "not base64"},
        {"queue": mailbox.name, "topic": "both", "body": ""},
        {"queue": mailbox.name, "body": "x" * (1024 * 1024 + 1)},
        {"queue": mailbox.name, "body_base64": "/wA=", "ordering_key": "k\n"},
        {"queue": mailbox.name, "body_base64": "/wA="},
    ]
    answer = mailbox.publisher.post("/v1/notifications", json={"notifications": items})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [r.get("code", "ok") for r in results] == [
        "ok",
        "queue_not_found",
        "malformed",
        "malformed",
        "malformed",
        "body_too_large",
        "invalid_header",
        "ok",
    ]
    received = mailbox.receive()
    assert [n.get("body", n.get("body_base64")) for n in received] == ["<a/>", "/wA="]


def test_settles_ride_along_with_a_receive_and_stand_or_fail_by_themselves(
    mailbox: Mailbox,
) -> None:
    for _ in range(3):
        mailbox.publish()
    first, second = (n["lease"] for n in mailbox.receive(max=2))
    answer = mailbox.client.post(
        f"/v1/queues/{mailbox.name}/receive",
        json={
            "wait": 0,
            "settle": [
                {"lease": first, "outcome": "ack"},
                {"lease": "made-up", "outcome": "ack"},
                {"lease": second, "outcome": "reject", "reason": "poison"},
            ],
        },
    ).json()
    assert [s.get("code", s.get("state")) for s in answer["settled"]] == [
        "acked",
        "lease_not_found",
        "dead",
    ]
    assert [n["seq"] for n in answer["notifications"]] == [3]


def test_dead_letters_keep_their_history_until_redriven_or_discarded(mailbox: Mailbox) -> None:
    mailbox.settings(max_attempts=2, backoff_base_seconds=0)
    for _ in range(3):
        mailbox.publish()
    for reason in ("first", "second"):
        for notification in mailbox.receive():
            mailbox.settle(notification["lease"], "nack", reason=reason)
    dead = mailbox.client.get(f"/v1/queues/{mailbox.name}/dead").json()["dead"]
    assert [(d["seq"], d["attempt"], d["reason"]) for d in dead] == [
        (seq, 2, "second") for seq in (1, 2, 3)
    ]
    assert [r["outcome"] for r in dead[0]["history"]] == ["published", "nacked", "nacked"]
    path = f"/v1/queues/{mailbox.name}/dead"
    preview = mailbox.admin.post(f"{path}/redrive", json={"all": True, "preview": True}).json()
    assert preview == {"matched": 3, "done": 0}
    done = mailbox.admin.post(f"{path}/redrive", json={"seqs": [1]}).json()
    assert done == {"matched": 1, "done": 1}
    done = mailbox.admin.post(
        f"{path}/discard", json={"filter": {"reason": "second"}, "reason": "obsolete"}
    ).json()
    assert done == {"matched": 2, "done": 2}
    (again,) = mailbox.receive()
    assert (again["seq"], again["attempt"]) == (1, 1)
    outcomes = [r["outcome"] for r in mailbox.receipts(outcome="discarded")]
    assert outcomes == ["discarded", "discarded"]
    assert mailbox.client.post(f"{path}/redrive", json={"all": True}).status_code == 403


def test_receipts_are_paged_by_cursor_and_filtered(mailbox: Mailbox) -> None:
    for _ in range(7):
        mailbox.publish()
    for notification in mailbox.receive(max=3):
        mailbox.settle(notification["lease"], "ack")
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = mailbox.client.get(
            f"/v1/queues/{mailbox.name}/receipts", params={"limit": 4, "after": after}
        ).json()
        seen += [r["number"] for r in page["receipts"]]
        after = page["next"]
    assert seen == list(range(1, 11))
    assert [r["number"] for r in mailbox.receipts(outcome="acked")] == [8, 9, 10]
    later = mailbox.receipts(since=mailbox.receipts(outcome="acked")[0]["at"])
    assert {r["outcome"] for r in later} >= {"acked"}
    assert mailbox.receipts(until="2020-01-01T00:00:00Z") == []


@pytest.mark.parametrize("moment", ["before the ack", "after the ack"])
def test_a_killed_server_forgets_nothing(own_server: Service, moment: str) -> None:
    box = Mailbox(own_server)
    published = box.publish(b"<order/>").json()
    (notification,) = box.receive(lease=600)
    if moment == "after the ack":
        assert box.settle(notification["lease"], "ack").status_code == 200
    before = box.receipts()
    own_server.end(signal.SIGKILL)
    own_server.start()
    assert box.receipts() == before
    # The lease outlives the process: still held, or still settled, and its token means the same.
    assert box.receive() == []
    answer = box.settle(notification["lease"], "ack")
    assert (answer.status_code, answer.json()["receipt"]) == (200, f"{box.name}~2")
    (delivery,) = box.admin.get(f"/v1/notifications/{published['id']}").json()["deliveries"]
    assert delivery["state"] == "acked"
    box.close()


def test_stopping_answers_open_polls_and_keeps_leases(own_server: Service) -> None:
    box = Mailbox(own_server)
    box.publish()
    (notification,) = box.receive(lease=600)
    with socket.create_connection(own_server.address, 20) as poll:
        poll.sendall(raw_post(f"/v1/queues/{box.name}/receive", box.key, b'{"wait":60}'))
        # One thread serves in the order of arrival: once a later request is answered, the poll waits.
        for _ in range(3):
            box.admin.get("/v1/queues")
        assert own_server.end(signal.SIGTERM) == 0
        answer = poll.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b'{"notifications":[]}')
    own_server.start()
    assert box.settle(notification["lease"], "ack").status_code == 200
    box.close()
