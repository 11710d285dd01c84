"""Restante's requests and answers as the load generator needs them: made once, found by search."""

from __future__ import annotations

import re

import msgspec

from restante.bench.http import RequestTemplate, request_bytes

_NOTIFICATIONS = b'"notifications":['
_SETTLED = b'"settled":['
_LEASE = b'"lease":"'
_LEASES = re.compile(rb'"lease":"([^"]+)"')


class UnexpectedAnswer(Exception):
    """An answer without the fields that the API promises."""


def xml_body(size_bytes: int) -> bytes:
    """A notification of exactly this size that looks like what is sent: an XML document.

    It holds quotes and line ends, so that putting it into JSON costs what it costs in earnest.
    """
    head = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<notification xmlns="urn:example:shipments" version="2">\n'
    )
    line = b'  <item sku="A-4711" quantity="12"><place country="NO">Bod\xc3\xb8</place></item>\n'
    foot = b"</notification>\n"
    room = size_bytes - len(head) - len(foot)
    if room < 0:
        return b"x" * size_bytes
    lines, rest = divmod(room, len(line))
    return head + line * lines + b" " * rest + foot


def find_leases(answer: bytes) -> list[bytes]:
    """The lease tokens of the notifications in a receive answer, in their order.

    Search, not JSON: inside a body every quote is escaped, so the pattern cannot match there.
    The settled part names leases too and is cut off. Raises UnexpectedAnswer when there is no
    list of notifications.
    """
    start = answer.find(_NOTIFICATIONS)
    if start < 0:
        raise UnexpectedAnswer(f"no notifications in {answer[:200]!r}")
    stop = answer.rfind(_SETTLED)
    return _LEASES.findall(answer, start, stop if stop > start else len(answer))


def first_lease(answer: bytes) -> bytes | None:
    """The lease token of the only notification in a receive answer, or None when it is empty."""
    start = answer.find(_NOTIFICATIONS)
    if start < 0:
        raise UnexpectedAnswer(f"no notifications in {answer[:200]!r}")
    start += len(_NOTIFICATIONS)
    if answer[start : start + 1] == b"]":
        return None
    at = answer.find(_LEASE, start)
    if at < 0:
        raise UnexpectedAnswer(f"no lease in {answer[:200]!r}")
    at += len(_LEASE)
    return answer[at : answer.index(b'"', at)]


def all_settled(answer: bytes, count: int) -> bool:
    """Whether `count` settles of a receive or settle answer are reported, and each went well."""
    start = answer.rfind(_SETTLED)
    if start < 0:
        return count == 0
    return answer.count(b'"ok":true', start) == count and b'"ok":false' not in answer[start:]


class ReceiveRequests:
    """Receive requests on one queue, each of which acks what came before."""

    def __init__(self, queue: str, *, key: str, max: int, wait_seconds: int) -> None:
        self._template = RequestTemplate("POST", f"/v1/queues/{queue}/receive", key=key)
        self._start = b'{"max":%d,"wait":%d,"settle":[' % (max, wait_seconds)
        self.plain = self._template.fill(b'{"max":%d,"wait":%d}' % (max, wait_seconds))

    def acking(self, lease: bytes) -> bytes:
        """The request that acks one lease and asks for more."""
        return self._template.fill(
            b'%b{"lease":"%b","outcome":"ack"}]}' % (self._start, lease),
        )

    def acking_all(self, leases: list[bytes]) -> bytes:
        """The request that acks some leases and asks for more."""
        settles = b",".join(b'{"lease":"%b","outcome":"ack"}' % lease for lease in leases)
        return self._template.fill(self._start + settles + b"]}")


def publish_request(queue: str, body: bytes, *, key: str) -> bytes:
    """A publish of one notification to one queue."""
    path = f"/v1/queues/{queue}/notifications"
    return request_bytes("POST", path, key=key, body=body, content_type="application/xml")


def batch_request(queues: list[str], body: bytes, *, key: str) -> bytes:
    """A publish of the same body to each of the queues named, 1,000 at most, one call."""
    text = body.decode()
    notifications = [
        {"queue": queue, "content_type": "application/xml", "body": text} for queue in queues
    ]
    payload = msgspec.json.encode({"notifications": notifications})
    return request_bytes("POST", "/v1/notifications", key=key, body=payload)


def ack_request(lease: bytes, *, key: str) -> bytes:
    """An ack of one lease, in a request of its own."""
    return request_bytes("POST", f"/v1/leases/{lease.decode()}/ack", key=key)


def json_request(method: str, path: str, value: object, *, key: str) -> bytes:
    """Any other call with a JSON body."""
    return request_bytes(method, path, key=key, body=msgspec.json.encode(value))
