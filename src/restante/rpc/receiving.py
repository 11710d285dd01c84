"""Receive: credit and settlements one way, notifications and what came of the settlements the other."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Final

from restante.engine.attachments import Attachment, Ending
from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.engine.stream import Stream
from restante.errors import Malformed, RestanteError, TooSlow
from restante.model import Actor
from restante.rpc.dialogue import Dialogue
from restante.rpc.handing_out import grant, hand_out, open_stream
from restante.rpc.link import TwoWay
from restante.rpc.messages import check_ref, to_problem, to_settle_results, to_settles
from restante.wire.proto import restante_pb2 as pb

FIRST_SECONDS: Final = 15.0
"""How long a stream may be open on which nothing is asked."""


class Receiving(Dialogue[pb.ReceiveRequest, pb.Answer]):
    """One call of Receive."""

    response: ClassVar[type[Any]] = pb.ReceiveResponse

    def __init__(self, broker: Broker, actor: Actor, link: TwoWay[pb.ReceiveRequest]) -> None:
        super().__init__(broker, actor, link)
        self._stream: Stream | None = None

    async def _converse(self, attachment: Attachment) -> None:
        first = await self._first()
        if first is None:
            return
        check_ref(first.ref)
        settles = to_settles(first.settle) if first.settle else []
        stream = await open_stream(self._broker, self._actor, first)
        attachment.become(f"{stream.queue}/{stream.id}")
        with stream:
            self._stream = stream
            await self._send(attached=pb.Attached(resume=stream.id))
            handing_out = self._start(
                hand_out(stream, self._send_notifications, resumed=bool(first.resume))
            )
            if settles:
                await self._settle(first.ref, settles)
            await self._carry_out_all(functools.partial(self._carry_out, stream))
            stream.end()
            await handing_out

    async def _first(self) -> pb.ReceiveRequest | None:
        error = TooSlow(f"nothing was asked within {FIRST_SECONDS:g} seconds")
        cancel = self._broker.clock.call_later(FIRST_SECONDS, lambda: self.end(error))
        try:
            return await self._link.read()
        finally:
            cancel()

    async def _carry_out(self, stream: Stream, request: pb.ReceiveRequest) -> None:
        if request.queue not in {"", stream.queue}:
            raise Malformed(f"this stream collects from {stream.queue}: open another")
        if request.resume:
            raise Malformed("resume belongs in the first request")
        gives_credit = request.HasField("credit")
        if not gives_credit and not request.settle:
            raise Malformed("a request gives credit, settles something, or both")
        settles = to_settles(request.settle) if request.settle else []
        if gives_credit:
            grant(stream, request.credit)
        if settles:
            await self._settle(request.ref, settles)

    async def _settle(self, ref: str, settles: list[Settle]) -> None:
        settling = await self._broker.settle(settles, self._actor)
        size = sum(len(settle.reply) for settle in settles if settle.reply is not None)
        self._begun(
            ref,
            len(settles),
            size,
            settling,
            lambda: pb.Answer(ref=ref, results=to_settle_results(settling, settling.known())),
        )

    async def _send_notifications(self, notifications: list[pb.Notification]) -> None:
        await self._send(notifications=notifications)

    def _refusal(self, ref: str, error: RestanteError) -> pb.Answer:
        return pb.Answer(ref=ref, problem=to_problem(error))

    def _leave(self, ending: Ending) -> bool:
        if self._stream is None:
            return False
        self._stream.end(displaced=ending is Ending.DISPLACED)
        return True
