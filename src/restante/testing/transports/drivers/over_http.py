"""What the drivers of more than one transport do by plain HTTP calls: settle, and read envelopes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import httpx

from restante.model import Verb
from restante.testing.transports.driver import Answer, Delivered, Outcome

_ATTRIBUTE: Final = "restante-attribute-"


def delivered_of(item: Mapping[str, Any], body: bytes | None = None) -> Delivered:
    """A notification of an envelope; ``body`` where its bytes came apart from it."""
    if body is None:
        text = item.get("body")
        body = base64.b64decode(item["body_base64"]) if text is None else text.encode()
    return Delivered(
        id=item["id"],
        queue=item["queue"],
        seq=item["seq"],
        lease=item["lease"],
        attempt=item["attempt"],
        content_type=item["content_type"],
        body=body,
        topic=item.get("topic", ""),
        attributes=item.get("attributes", {}),
        ordering_key=item.get("ordering_key", ""),
    )


def in_headers(headers: Mapping[str, str], id_header: str, body: bytes) -> Delivered:
    """A notification that is a message of its own, its id in the header of that name."""
    return Delivered(
        id=headers[id_header],
        queue=headers["restante-queue"],
        seq=int(headers["restante-seq"]),
        lease=headers["restante-lease"],
        attempt=int(headers["restante-attempt"]),
        content_type=headers["content-type"],
        body=body,
        topic=headers.get("restante-topic", ""),
        attributes={
            name.removeprefix(_ATTRIBUTE): value
            for name, value in headers.items()
            if name.startswith(_ATTRIBUTE)
        },
        ordering_key=headers.get("restante-ordering-key", ""),
    )


def outcome_of(item: Mapping[str, Any]) -> Outcome:
    """A settled item of an envelope, or a problem."""
    return Outcome(
        ok=item.get("ok", False),
        outcome=item.get("outcome", ""),
        state=item.get("state", ""),
        receipt=item.get("receipt", ""),
        code=item.get("code", ""),
    )


def said(answer: Answer) -> dict[str, Any]:
    """The members of a nack, a reject or an extend."""
    members = {
        "reason": answer.reason or None,
        "retry_after": answer.retry_after,
        "lease": answer.lease_seconds,
    }
    return {name: value for name, value in members.items() if value is not None}


async def settle(http: httpx.AsyncClient, delivered: Delivered, answer: Answer) -> Outcome:
    """Settle one lease by the call for it."""
    path = f"/v1/leases/{delivered.lease}/{answer.verb.value}"
    if answer.verb is Verb.ACK:
        headers = {"content-type": answer.reply_content_type} if answer.reply else {}
        response = await http.post(path, content=answer.reply or b"", headers=headers)
    else:
        response = await http.post(path, json=said(answer))
    return outcome_of(response.json())


async def settle_in_batch(
    http: httpx.AsyncClient, queue: str, delivered: Delivered, answer: Answer
) -> Outcome:
    """Settle one lease by the call for many of a queue."""
    item: dict[str, Any] = {"lease": delivered.lease, "outcome": answer.verb.value}
    item |= {name: value for name, value in said(answer).items() if name != "lease"}
    if answer.lease_seconds is not None:
        item["lease_seconds"] = answer.lease_seconds
    if answer.reply is not None:
        item["reply_base64"] = base64.b64encode(answer.reply).decode()
        item["reply_content_type"] = answer.reply_content_type
    response = await http.post(f"/v1/queues/{queue}/settle", json={"settle": [item]})
    return outcome_of(response.json()["settled"][0])


async def publish(
    http: httpx.AsyncClient, queue: str, bodies: list[bytes], ordering_key: str
) -> list[str]:
    """Publish in one batch."""
    items = [
        {
            "queue": queue,
            "body_base64": base64.b64encode(body).decode(),
            "ordering_key": ordering_key,
        }
        for body in bodies
    ]
    response = await http.post("/v1/notifications", json={"notifications": items})
    return [result["id"] for result in response.json()["results"]]
