"""What the drivers of more than one transport do with the messages of restante.proto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from restante.model import Verb
from restante.testing.transports.driver import Answer, Delivered, Options, Outcome
from restante.wire.proto import restante_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["Delivery"]
Unary = Callable[[str, Any], Awaitable[Any]]
"""Makes a call by its name, with a request, for one answer."""


def delivered_of(item: pb.Notification) -> Delivered:
    return Delivered(
        id=item.id,
        queue=item.queue,
        seq=item.seq,
        lease=item.lease,
        attempt=item.attempt,
        content_type=item.content_type,
        body=item.body,
        topic=item.topic,
        attributes=dict(item.attributes),
        ordering_key=item.ordering_key,
    )


def outcome_of(item: pb.SettleResult | pb.Answer) -> Outcome:
    if item.HasField("problem"):
        return Outcome(ok=False, code=item.problem.code)
    assert isinstance(item, pb.SettleResult)
    return Outcome(ok=True, outcome=item.outcome, state=item.state, receipt=item.receipt)


def settlement_of(lease: str, answer: Answer) -> pb.Settlement:
    match answer.verb:
        case Verb.ACK:
            ack = pb.Ack(reply=answer.reply, reply_content_type=answer.reply_content_type)
            return pb.Settlement(lease=lease, ack=ack)
        case Verb.NACK:
            nack = pb.Nack(reason=answer.reason, retry_after_seconds=answer.retry_after)
            return pb.Settlement(lease=lease, nack=nack)
        case Verb.REJECT:
            return pb.Settlement(lease=lease, reject=pb.Reject(reason=answer.reason))
        case Verb.RELEASE:
            return pb.Settlement(lease=lease, release=pb.Release())
        case Verb.EXTEND:
            extension = pb.Extension(lease_seconds=answer.lease_seconds)
            return pb.Settlement(lease=lease, extend=extension)


def credit_of(options: Options) -> pb.Credit:
    return pb.Credit(
        messages=options.credit, bytes=options.credit_bytes, lease_seconds=options.lease_seconds
    )


def publications_of(queue: str, bodies: Iterable[bytes], ordering_key: str) -> list[pb.Publication]:
    return [pb.Publication(queue=queue, body=body, ordering_key=ordering_key) for body in bodies]


async def publish(unary: Unary, queue: str, bodies: list[bytes], ordering_key: str) -> list[str]:
    """Publish in one batch; the ids."""
    request = pb.PublishRequest(notifications=publications_of(queue, bodies, ordering_key))
    response: pb.PublishResponse = await unary("Publish", request)
    return [result.id for result in response.results]


async def settle(unary: Unary, delivered: Delivered, answer: Answer) -> Outcome:
    """Settle one lease by the call for it."""
    request = pb.SettleRequest(settle=[settlement_of(delivered.lease, answer)])
    response: pb.SettleResponse = await unary("Settle", request)
    return outcome_of(response.results[0])


class Reading:
    """Reads a stream of responses in a task of its own, so that its end is noticed."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[Delivered] = asyncio.Queue()
        self.attached: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def begin(self, responses: AsyncIterator[Any], take_in: Callable[[Any], None]) -> None:
        """``take_in`` is given what a response holds beside notifications."""
        self.task = asyncio.create_task(self._read(responses, take_in))

    async def _read(self, responses: AsyncIterator[Any], take_in: Callable[[Any], None]) -> None:
        async for response in responses:
            if response.HasField("attached"):
                self.attached.set_result(response.attached.resume)
            for item in response.notifications:
                self.received.put_nowait(delivered_of(item))
            take_in(response)
        if not self.attached.done():
            self.attached.set_exception(ConnectionError("the stream was not attached"))

    async def take(self, count: int) -> list[Delivered]:
        return [await self.received.get() for _ in range(count)]

    async def ended(self) -> None:
        if self.task is not None:
            await asyncio.wait([self.task])
