"""Notifications on a stream, as they come: what Receive and Subscribe have in common."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.stream import CREDIT_BYTES, CREDIT_MESSAGES_MAXIMUM, Stream
from restante.errors import Displaced, Malformed, RestanteError, ShuttingDown, Unauthenticated
from restante.model import Actor, Delivery, check_bounds
from restante.rpc.messages import in_responses, to_notification
from restante.wire.proto import restante_pb2 as pb

HEARTBEAT_SECONDS: Final = 45.0
"""Proxies cut off what is silent for 60, and HTTP/2's own pings do not get past them. Each is a message, and dear."""
_RESUME: Final = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


async def open_stream(
    broker: Broker, actor: Actor, request: pb.ReceiveRequest | pb.SubscribeRequest
) -> Stream:
    """The stream that is asked for, to be entered. Raises as ``Broker.stream``, and for what the request leaves out."""
    if not request.queue:
        raise Malformed("name the queue to collect from")
    if not request.HasField("credit"):
        raise Malformed("give credit: how many messages may be unsettled")
    check_bounds("credit", request.credit.messages, 1, CREDIT_MESSAGES_MAXIMUM)
    if request.resume and not _RESUME.fullmatch(request.resume):
        raise Malformed("resume is what an earlier stream was told when it was attached")
    stream = await broker.stream(request.queue, actor, consumer=request.resume or None)
    grant(stream, request.credit)
    return stream


def grant(stream: Stream, credit: pb.Credit) -> None:
    """Raises ``OutOfBounds``."""
    stream.grant(
        credit.messages,
        credit.bytes if credit.HasField("bytes") else CREDIT_BYTES,
        credit.lease_seconds if credit.HasField("lease_seconds") else None,
    )


async def hand_out(
    stream: Stream, send: Callable[[list[pb.Notification]], Awaitable[None]], *, resumed: bool
) -> None:
    """Send what comes until the stream ends, and before it, for one that is ``resumed``, what it holds already.

    An empty list goes out when nothing else does. What was leased and not sent is given back.
    """
    while resumed and (again := await stream.held_before()):
        for part in in_responses(again):
            await send(_notifications(stream, part))
    while not stream.ended:
        deliveries = await stream.next(HEARTBEAT_SECONDS)
        sent = 0
        try:
            for part in in_responses(deliveries):
                await send(_notifications(stream, part))
                sent += len(part)
        finally:
            stream.give_back(deliveries[sent:])
        if not deliveries and not stream.ended:
            await send([])


def _notifications(stream: Stream, deliveries: Sequence[Delivery]) -> list[pb.Notification]:
    return [to_notification(stream.session, delivery) for delivery in deliveries]


def error_of(ending: Ending) -> RestanteError:
    """What a stream ends with that the service ends."""
    match ending:
        case Ending.DRAIN:
            return ShuttingDown(ending.value)
        case Ending.KEY_ENDED:
            return Unauthenticated(ending.value)
        case Ending.DISPLACED:
            return Displaced(ending.value)


def drain_of(broker: Broker) -> pb.Drain:
    """What a stream is told when the service goes out of operation."""
    return pb.Drain(reconnect_after_seconds=broker.attachments.reconnect_after_seconds())
