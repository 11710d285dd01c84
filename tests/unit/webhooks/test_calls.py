"""What is sent."""

import base64
import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest

from restante.engine.webhooks import Opened
from restante.model import Delivery, LeaseRef
from restante.transports.webhook.calls import delivery_call, ping_call
from restante.webhooks import Webhook

WEBHOOK = Webhook(queue="acme", url="https://hooks.example/in", timeout_seconds=3)
SECRET = b"s" * 32
BODY = b"\xff\x00<order/>"


class Seals:
    def token(self, delivery):
        return f"token-of-{delivery.ref.seq}"


SESSION: Any = Seals()


def delivery(**fields):
    values = {
        "id": "019c",
        "ref": LeaseRef("acme", 12, 1, 99),
        "attempt": 2,
        "topic": "orders.new",
        "content_type": "application/xml",
        "body": BODY,
        "attributes": {"region": "eu", "ce-type": "order", "dotted.name": "x"},
        "ordering_key": "k",
        "published_at_ms": 1_000,
        "lease_until_ms": 2_000,
    }
    return Delivery(**{**values, **fields})


def made(webhook=WEBHOOK, headers={}, secrets=((SECRET, None),), now_ms=5_999):  # noqa: B006
    return delivery_call(webhook, Opened(headers, secrets), SESSION, delivery(), now_ms)


def test_the_notification_itself_with_all_else_in_headers():
    call = made()
    assert (call.url, call.body, call.timeout_seconds) == (WEBHOOK.url, BODY, 3)
    signed = hmac.new(SECRET, b"019c.5." + BODY, hashlib.sha256).digest()
    assert call.headers == {
        "accept": "*/*",
        "accept-encoding": "identity",
        "webhook-id": "019c",
        "webhook-timestamp": "5",
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        "content-type": "application/xml",
        "restante-id": "019c",
        "restante-queue": "acme",
        "restante-seq": "12",
        "restante-lease": "token-of-12",
        "restante-attempt": "2",
        "restante-topic": "orders.new",
        "restante-ordering-key": "k",
        "restante-published-at": "1970-01-01T00:00:01.000Z",
        "restante-lease-until": "1970-01-01T00:00:02.000Z",
        "restante-attribute-region": "eu",
        "ce-type": "order",
    }


def test_the_trace_it_belongs_to_has_headers_of_its_own():
    context = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "congo=1"}
    traced = msgspec.structs.replace(delivery(), attributes=context)
    call = delivery_call(WEBHOOK, Opened({}, ()), SESSION, traced, 0)
    assert {name: call.headers[name] for name in context} == context
    assert not any(name.startswith("restante-attribute-") for name in call.headers)


def test_an_envelope_in_json():
    call = made(msgspec.structs.replace(WEBHOOK, payload="json"))
    assert call.headers["content-type"] == "application/json"
    envelope = json.loads(call.body)
    assert base64.b64decode(envelope["body_base64"]) == BODY
    assert (envelope["id"], envelope["lease"]) == ("019c", "token-of-12")
    assert envelope["attributes"]["dotted.name"] == "x"


def test_the_client_s_own_headers_replace_none_of_ours():
    call = made(headers={"authorization": "Bearer x", "webhook-id": "forged", "accept": "a/b"})
    assert call.headers["authorization"] == "Bearer x"
    assert call.headers["webhook-id"] == "019c"
    assert call.headers["accept"] == "a/b"


@pytest.mark.parametrize(
    ("ends_at", "signatures"), [((None, None), 2), ((None, 6_000), 2), ((None, 5_999), 1)]
)
def test_a_secret_signs_until_it_ends(ends_at, signatures):
    secrets = [(bytes([n]) * 32, at) for n, at in enumerate(ends_at)]
    assert made(secrets=secrets).headers["webhook-signature"].count("v1,") == signatures


def test_a_ping_is_json_whatever_the_payload_is_and_says_what_it_is():
    call = ping_call(WEBHOOK, Opened({"x": "y"}, [(SECRET, None)]), "019d", 5_999)
    assert json.loads(call.body) == {
        "type": "restante.ping",
        "queue": "acme",
        "at": "1970-01-01T00:00:05.999Z",
    }
    assert call.headers["content-type"] == "application/json"
    assert call.headers["restante-ping"] == "true"
    assert call.headers["webhook-id"] == "ping_019d"
    assert call.headers["x"] == "y"
    assert "restante-lease" not in call.headers
