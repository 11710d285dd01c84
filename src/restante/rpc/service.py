"""The service Delivery of restante.proto: each of its calls, whoever carries the messages.

A call that answers with one message takes a request and returns the answer. One that waits, or answers with many, is
given the line on which it writes, since what it leased and could not write has to be given back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.message import Message

from restante import auth
from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.session import Session
from restante.engine.settling import Settling
from restante.errors import ShuttingDown
from restante.model import Actor, Delivery, Role
from restante.rpc.dialogue import Dialogue
from restante.rpc.link import Line, TwoWay
from restante.rpc.messages import (
    RESPONSE_BYTES,
    in_responses,
    to_extensions,
    to_notification,
    to_publications,
    to_publish_results,
    to_settle_results,
    to_settles,
)
from restante.rpc.publishing import PublishingStream
from restante.rpc.receiving import Receiving
from restante.rpc.subscribing import subscribe
from restante.wire.proto import restante_pb2 as pb

NAME: Final[str] = pb.DESCRIPTOR.services_by_name["Delivery"].full_name
PULL_MAX: Final = 10
PULL_WAIT_SECONDS: Final = 20.0
D = TypeVar("D", bound=Dialogue[Any, Any])

Answers = Callable[[Actor, Any], Awaitable[Message]]
Writes = Callable[[Actor, Any, Line], Awaitable[None]]
Converses = Callable[[Actor, TwoWay[Any]], Awaitable[None]]


class Call(NamedTuple):
    """One call of the service: the type of its requests, and which of the three ways it is carried out."""

    request: type[Message]
    answers: Answers | None = None
    writes: Writes | None = None
    converses: Converses | None = None
    streams: bool = False
    """Whether it may answer with more than one message."""


class Service:
    """All calls, by their names."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._dialogues: set[Dialogue[Any, Any]] = set()
        self.calls: Final[Mapping[str, Call]] = {
            "Publish": Call(pb.PublishRequest, answers=self.publish),
            "PublishStream": Call(
                pb.PublishStreamRequest, converses=self.publish_stream, streams=True
            ),
            "Receive": Call(pb.ReceiveRequest, converses=self.receive, streams=True),
            "Subscribe": Call(pb.SubscribeRequest, writes=self.subscribe, streams=True),
            "Pull": Call(pb.PullRequest, writes=self.pull),
            "Settle": Call(pb.SettleRequest, answers=self.settle),
            "Extend": Call(pb.ExtendRequest, answers=self.extend),
        }

    def close(self) -> None:
        """End what is still open in both directions: its clients have had their time to leave."""
        for dialogue in list(self._dialogues):
            dialogue.end(ShuttingDown(Ending.DRAIN.value))

    async def publish(self, actor: Actor, request: pb.PublishRequest) -> pb.PublishResponse:
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        results = await self._broker.publish_batch(to_publications(request.notifications), actor)
        return pb.PublishResponse(results=to_publish_results(results))

    async def publish_stream(self, actor: Actor, link: TwoWay[pb.PublishStreamRequest]) -> None:
        await self._serve(PublishingStream(self._broker, actor, link))

    async def receive(self, actor: Actor, link: TwoWay[pb.ReceiveRequest]) -> None:
        await self._serve(Receiving(self._broker, actor, link))

    async def subscribe(self, actor: Actor, request: pb.SubscribeRequest, line: Line) -> None:
        await subscribe(self._broker, actor, request, line)

    async def pull(self, actor: Actor, request: pb.PullRequest, line: Line) -> None:
        session = await self._broker.session(request.queue, actor)
        most = request.max if request.HasField("max") else PULL_MAX
        wait = request.wait_seconds if request.HasField("wait_seconds") else PULL_WAIT_SECONDS
        lease = request.lease_seconds if request.HasField("lease_seconds") else None
        settling: Settling | None = None
        if request.settle:
            session.check(most, wait, lease)
            # Begun before the look and in the same breath: both share one transaction.
            settling = await self._broker.settle(to_settles(request.settle), actor)
        deliveries = await session.receive(
            max=most,
            wait_seconds=wait,
            lease_seconds=lease,
            max_bytes=RESPONSE_BYTES,
            hangup=line,
        )
        await self._answer_pull(session, deliveries, settling, line)

    async def _answer_pull(
        self,
        session: Session,
        deliveries: list[Delivery],
        settling: Settling | None,
        line: Line,
    ) -> None:
        shown = 0
        try:
            response = pb.PullResponse()
            if settling is not None:
                results = await settling.results()
                response.settled.extend(to_settle_results(settling, results))
            # What does not fit, attributes and all, comes with the next.
            first = next(in_responses(deliveries), [])
            response.notifications.extend(to_notification(session, one) for one in first)
            await line.write(response)
            shown = len(first)
        finally:
            if shown < len(deliveries):
                self._broker.keep(session.give_back(deliveries[shown:]))

    async def settle(self, actor: Actor, request: pb.SettleRequest) -> pb.SettleResponse:
        settling = await self._broker.settle(to_settles(request.settle), actor)
        results = await settling.results()
        return pb.SettleResponse(results=to_settle_results(settling, results))

    async def extend(self, actor: Actor, request: pb.ExtendRequest) -> pb.ExtendResponse:
        settling = await self._broker.settle(to_extensions(request), actor)
        results = await settling.results()
        return pb.ExtendResponse(results=to_settle_results(settling, results))

    async def _serve(self, dialogue: Dialogue[Any, Any]) -> None:
        self._dialogues.add(dialogue)
        try:
            await dialogue.serve()
        finally:
            self._dialogues.discard(dialogue)
