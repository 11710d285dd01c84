"""The messages of restante.proto, to and from what the engine knows. Nothing else does both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from restante.engine.session import Session
from restante.engine.settling import Settle, Settling
from restante.errors import Malformed, RestanteError
from restante.model import (
    BATCH,
    Appended,
    Delivery,
    Publication,
    Settled,
    Signature,
    Verb,
    check_bounds,
)
from restante.tracecontext import TRACEPARENT
from restante.wire.client_signatures import signature_of
from restante.wire.codes import detail_of
from restante.wire.proto import restante_pb2 as pb
from restante.wire.receipts import receipt_id

M = TypeVar("M", bound=Message)

MESSAGE_BYTES: Final = 24 * 1024 * 1024
"""The largest request: a batch that carries the largest body, in JSON too, and some."""
RESPONSE_BYTES: Final = 3 * 1024 * 1024
"""Notifications in one response. With all else it stays below the 4 MiB that gRPC's clients take by default."""
MEMBERS: Final = BATCH + 100
"""Of one request: a full batch, and what else stands beside it."""
ATTRIBUTES: Final = 16 * 1024
"""Of one notification: as many as names of one character could be."""
REF_CHARACTERS: Final = 128
PLACES: Final = 100
"""Of a notification that went to more queues, only their number is told."""
_SMALL_BYTES: Final = 512
"""About what a notification takes beside its body and its attributes."""


def decode(kind: type[M], data: bytes) -> M:
    """The message in its binary form; ``Malformed`` when it is none, ``OutOfBounds`` when it has too many members."""
    _check_fields(data)
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Malformed(f"not a {kind.DESCRIPTOR.name} of restante.proto") from error


def _check_fields(data: bytes) -> None:
    """Raise ``OutOfBounds`` for more members than any request has: two bytes of an empty one are a hundred in memory.

    Looks at tags and lengths only (protobuf's encoding); what is not well formed is left to the parser.
    """
    at = count = 0
    end = len(data)
    while at < end:
        count += 1
        check_bounds("number of members", count, 0, MEMBERS)
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(data, at)
                at += length
            case 5:
                at += 4
            case _:
                return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends; past the end where it is cut off or too long."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, len(data)


def to_problem(error: RestanteError) -> pb.Problem:
    """An error of one item, or of one request on a stream."""
    return pb.Problem(code=error.code, detail=detail_of(error), status=error.status)


def check_ref(ref: str) -> None:
    """Raise ``Malformed`` for a ref that is too long."""
    if len(ref) > REF_CHARACTERS:
        raise Malformed(f"a ref is at most {REF_CHARACTERS} characters long")


# -- publishing ---------------------------------------------------------------------------------


def _to_publication(item: pb.Publication) -> Publication:
    check_bounds("number of attributes", len(item.attributes), 0, ATTRIBUTES)
    return Publication(
        body=item.body,
        queue=item.queue,
        topic=item.topic,
        content_type=item.content_type or "application/octet-stream",
        attributes=dict(item.attributes),
        idempotency_key=item.idempotency_key,
        ordering_key=item.ordering_key,
        collapse_key=item.collapse_key,
        deliver_after_seconds=item.deliver_after_seconds,
        expires_after_seconds=(
            item.expires_after_seconds if item.HasField("expires_after_seconds") else None
        ),
    )


def carry(message: Message, context: Mapping[str, str]) -> None:
    """Give what is to be published the call's trace context, where it has none of its own; all else stays as it is."""
    if context and isinstance(message, pb.PublishRequest | pb.PublishStreamRequest):
        for item in message.notifications:
            if TRACEPARENT not in item.attributes:
                item.attributes.update(context)


def to_publications(items: Sequence[pb.Publication]) -> list[Publication]:
    """What the engine is asked. Raises ``OutOfBounds`` for too many, before any is looked at."""
    check_bounds("number of notifications", len(items), 1, BATCH)
    return [_to_publication(item) for item in items]


def to_publish_results(results: Iterable[Appended | RestanteError]) -> list[pb.PublishResult]:
    """The results of a batch as they are answered."""
    return [_to_publish_result(result) for result in results]


def _to_publish_result(result: Appended | RestanteError) -> pb.PublishResult:
    if isinstance(result, RestanteError):
        return pb.PublishResult(problem=to_problem(result))
    places = result.deliveries
    named = places if len(places) <= PLACES else ()
    return pb.PublishResult(
        id=result.id,
        queues=len(places),
        deliveries=[pb.Place(queue=place.queue, seq=place.seq) for place in named],
        replayed=result.replayed,
    )


# -- collecting ---------------------------------------------------------------------------------


def to_notification(session: Session, delivery: Delivery) -> pb.Notification:
    """The notification with its lease."""
    return pb.Notification(
        id=delivery.id,
        queue=delivery.ref.queue,
        seq=delivery.ref.seq,
        lease=session.token(delivery),
        attempt=delivery.attempt,
        topic=delivery.topic,
        content_type=delivery.content_type,
        body=delivery.body,
        attributes=delivery.attributes,
        ordering_key=delivery.ordering_key,
        published_at=_timestamp(delivery.published_at_ms),
        lease_until=_timestamp(delivery.lease_until_ms),
    )


def in_responses(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """The deliveries in their order, in parts that each fit in a response; one that is too large is alone."""
    begin = size = 0
    for index, delivery in enumerate(deliveries):
        own = len(delivery.body) + _SMALL_BYTES + _attribute_bytes(delivery)
        if size + own > RESPONSE_BYTES and index > begin:
            yield deliveries[begin:index]
            begin, size = index, 0
        size += own
    if begin < len(deliveries):
        yield deliveries[begin:]


def _attribute_bytes(delivery: Delivery) -> int:
    # Of text beyond ASCII a character may take four bytes.
    return 4 * sum(len(name) + len(value) for name, value in delivery.attributes.items())


def _timestamp(wall_ms: int) -> Timestamp:
    seconds, millis = divmod(wall_ms, 1_000)
    return Timestamp(seconds=seconds, nanos=millis * 1_000_000)


# -- settling -----------------------------------------------------------------------------------


def to_settles(items: Sequence[pb.Settlement]) -> list[Settle]:
    """What the engine is asked. ``OutOfBounds`` unless there are 1 to 1,000; ``Malformed`` for one without outcome."""
    check_bounds("number of settlements", len(items), 1, BATCH)
    return [_to_settle(item) for item in items]


def to_extensions(request: pb.ExtendRequest) -> list[Settle]:
    """What the engine is asked. ``OutOfBounds`` unless there are 1 to 1,000."""
    check_bounds("number of leases", len(request.leases), 1, BATCH)
    seconds = request.lease_seconds if request.HasField("lease_seconds") else None
    return [
        Settle(lease=lease, verb=Verb.EXTEND, lease_seconds=seconds) for lease in request.leases
    ]


def to_settle_results(
    settling: Settling, results: Iterable[Settled | RestanteError]
) -> list[pb.SettleResult]:
    """The results of a batch as they are answered."""
    return [
        _to_settle_result(queue, result)
        for queue, result in zip(settling.queues, results, strict=True)
    ]


def _ack(item: pb.Settlement) -> Settle:
    ack = item.ack
    return Settle(
        lease=item.lease,
        verb=Verb.ACK,
        reply=ack.reply or None,
        reply_content_type=ack.reply_content_type,
    )


def _nack(item: pb.Settlement) -> Settle:
    nack = item.nack
    seconds = nack.retry_after_seconds if nack.HasField("retry_after_seconds") else None
    return Settle(lease=item.lease, verb=Verb.NACK, reason=nack.reason, retry_after_seconds=seconds)


def _reject(item: pb.Settlement) -> Settle:
    return Settle(lease=item.lease, verb=Verb.REJECT, reason=item.reject.reason)


def _release(item: pb.Settlement) -> Settle:
    return Settle(lease=item.lease, verb=Verb.RELEASE)


def _extend(item: pb.Settlement) -> Settle:
    extension = item.extend
    seconds = extension.lease_seconds if extension.HasField("lease_seconds") else None
    return Settle(lease=item.lease, verb=Verb.EXTEND, lease_seconds=seconds)


_SETTLES: Final[dict[str | None, Callable[[pb.Settlement], Settle]]] = {
    "ack": _ack,
    "nack": _nack,
    "reject": _reject,
    "release": _release,
    "extend": _extend,
}


def _to_settle(item: pb.Settlement) -> Settle:
    said = _SETTLES.get(item.WhichOneof("outcome"))
    if said is None:
        raise Malformed("a settlement says ack, nack, reject, release or extend")
    settle = said(item)
    if item.HasField("signature"):
        return msgspec.structs.replace(settle, signature=_signature(item.signature))
    return settle


def _signature(said: pb.Signature) -> Signature:
    return signature_of(
        key=said.key,
        at=said.at,
        notification=said.notification,
        body_sha256=said.body_sha256,
        value=said.value,
    )


def _to_settle_result(queue: str, result: Settled | RestanteError) -> pb.SettleResult:
    if isinstance(result, RestanteError):
        return pb.SettleResult(problem=to_problem(result))
    return pb.SettleResult(
        outcome=result.outcome,
        state=result.state.label,
        receipt=receipt_id(queue, result.number) if result.number else "",
        lease_until=_timestamp(result.lease_until_ms) if result.lease_until_ms else None,
    )
