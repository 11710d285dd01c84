"""Waiting as it is asked for in headers (RFC 7240) and answered: what has become of each delivery."""

from __future__ import annotations

from typing import NamedTuple

from restante.engine.waiting import Came
from restante.http.answers import Header
from restante.http.request import Request
from restante.lifecycle import ENDED
from restante.model import Appended, State
from restante.outcomes import ALL, Requirement
from restante.queries import DeliveryRecord
from restante.wire.messages import AwaitedDelivery, DeliveryOut, text_of
from restante.wire.messages import bytes_of as bytes_in
from restante.wire.preferences import preferences_of, wait_of
from restante.wire.receipts import decode_entry, receipt_id


class Wanted(NamedTuple):
    """How long to wait, in seconds, and for what."""

    wait_seconds: int
    requirement: Requirement

    def applied(self) -> Header:
        """The header that says so (RFC 7240, section 3)."""
        return (b"preference-applied", b"wait=%d" % self.wait_seconds)


def wanted_of(request: Request) -> Wanted | None:
    """What ``Prefer: wait`` and ``Restante-Require`` ask for; None where there is no such preference.

    A longer wait than the longest is cut to that. What cannot be done or read of what is preferred is passed over (RFC
    7240, section 2); what is required has to be read: ``Malformed``.
    """
    required = request.header(b"restante-require")
    # Also where nothing is waited for: what cannot be read is a mistake.
    requirement = ALL if required is None else Requirement.parse(required)
    wait = wait_of(preferences_of(request.lines(b"prefer")))
    return None if wait is None else Wanted(wait, requirement)


def to_awaited(came: Came | Appended, *, for_xml: bool) -> list[AwaitedDelivery]:
    """Where each delivery stands; where it went only, of what is known to be published and no more."""
    if isinstance(came, Appended):
        return [AwaitedDelivery(queue=place.queue, seq=place.seq) for place in came.deliveries]
    return [to_delivery(one, for_xml=for_xml) for one in came.record.deliveries]


def to_delivery(record: DeliveryRecord, *, for_xml: bool) -> DeliveryOut:
    """Where one delivery stands: what happened to it last, and once it is over who did that, and with what reply."""
    out = DeliveryOut(
        queue=record.queue, seq=record.seq, state=record.state.label, attempt=record.attempt
    )
    if record.last is None:
        return out
    last = decode_entry(record.last.entry)
    out.receipt = receipt_id(record.last.queue, record.last.number)
    out.outcome = last.outcome
    out.attempt = record.attempt or last.attempt
    out.reason = last.reason or None
    if record.state in ENDED or record.state is State.DEAD:
        out.settled_at = last.at
        out.client = last.principal
    if record.state in ENDED:
        reply = bytes_in("reply", last.reply, last.reply_base64)
        if reply is not None:
            out.reply, out.reply_base64 = text_of(reply, for_xml=for_xml)
        out.reply_content_type = last.reply_content_type or None
    return out
