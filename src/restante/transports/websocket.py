"""WebSocket (RFC 6455): deliveries pushed within a credit, settles and publishes on the same connection.

One connection attaches to any number of its client's queues, each by a ``credit`` frame. Every frame is carried out
as it comes; what answers it comes when it is done, which may be in another order, and bears the frame's ``ref``. A
frame that cannot be carried out is answered with an ``error`` frame, and the connection goes on.

What has been sent and not settled when the connection ends waits for its lease to run out, or is settled on another
connection. What was leased and not sent is released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Final

from restante import auth
from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.settling import Settle, Settling
from restante.engine.stream import CREDIT_BYTES, Stream
from restante.errors import Malformed, RestanteError, ShuttingDown, Unauthenticated
from restante.http.api import Routes
from restante.http.delivering import members, to_notification
from restante.http.publishing import to_publication, to_result
from restante.http.settling import to_item, to_signature
from restante.http.socket import POLICY, Socket, SocketClosed
from restante.logs import get_logger
from restante.model import BATCH, Delivery, Publication, Role, Verb, check_bounds
from restante.wire import frames
from restante.wire.messages import PublishedItem

_log = get_logger(__name__)

NAME: Final = "websocket"
CLIENT_MESSAGE_BYTES: Final = 4 * 1024 * 1024
PUBLISHER_MESSAGE_BYTES: Final = 24 * 1024 * 1024
"""The largest body in base64, and some."""
ITEMS_UNDER_WAY: Final = 10_000
"""Settles and publishes of one connection that have not been answered; beyond, it is not read from."""
BYTES_UNDER_WAY: Final = 16 * 1024 * 1024
"""As much of their replies and bodies. One message more may be under way, since it is read before it is counted."""
TURNS: Final = 8
"""How many of a connection's queues may have something to send at once."""
QUEUES: Final = 1_000


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the transport."""

    def serve(socket: Socket) -> Coroutine[None, None, None]:
        return Connection(broker, socket).serve()

    routes.add_socket("/v1/queues/{queue}/socket", serve, NAME)
    routes.add_socket("/v1/socket", serve, NAME)


class Connection:
    """One connection of one principal."""

    def __init__(self, broker: Broker, socket: Socket) -> None:
        self._broker = broker
        self._socket = socket
        self._actor = socket.actor
        self._queue = socket.parameters.get("queue", "")
        self._subprotocol = ""
        self._streams: dict[str, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(TURNS)
        self._under_way = 0
        self._bytes_under_way = 0
        self._room: asyncio.Future[None] | None = None

    async def serve(self) -> None:
        """From the handshake to the end of the connection."""
        socket, actor = self._socket, self._actor
        chosen = [name for name in socket.subprotocols if name in {frames.TEXT, frames.BINARY}]
        if not chosen:
            raise Malformed(
                f"ask for a subprotocol: Sec-WebSocket-Protocol: {frames.TEXT} (or {frames.BINARY})"
            )
        self._subprotocol = chosen[0]
        if self._queue:
            auth.require_sight(actor, await self._broker.directory.queue(self._queue))
        with self._broker.attachments.attach(actor, self._end):
            await socket.accept(
                self._subprotocol,
                max_message_bytes=CLIENT_MESSAGE_BYTES
                if actor.role is Role.CLIENT
                else PUBLISHER_MESSAGE_BYTES,
            )
            try:
                await self._read()
            except SocketClosed:
                return
            finally:
                for stream in self._streams.values():
                    stream.end()
                await self._stop()

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if wait_seconds := self._broker.rates.wait_seconds(self._actor):
                await self._broker.clock.wait(wait_seconds)
            try:
                incoming = frames.read(message, self._subprotocol)
            except frames.Unreadable as unreadable:
                await self._send(frames.error_of(unreadable.error, unreadable.ref))
                continue
            try:
                await self._carry_out(incoming)
            except RestanteError as error:
                await self._send(frames.error_of(error, incoming.frame.ref))
            while self._under_way > ITEMS_UNDER_WAY or self._bytes_under_way > BYTES_UNDER_WAY:
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    async def _carry_out(self, incoming: frames.Incoming) -> None:
        frame = incoming.frame
        match frame:
            case frames.Credit():
                await self._grant(frame)
            case frames.Publish():
                check_bounds("number of notifications", len(frame.notifications), 1, BATCH)
                auth.require(self._actor, Role.PUBLISHER, Role.ADMIN)
                published = self._published(frame, incoming.parts)
                self._answer_later(incoming, len(frame.notifications), published)
            case _:
                check_bounds("number of items", len(frame.items), 1, BATCH)
                # Begun here, so that frames take effect in the order in which they came.
                settling = await self._broker.settle(_settles(incoming), self._actor)
                self._answer_later(incoming, len(frame.items), self._settled(frame, settling))

    # -- collecting -----------------------------------------------------------------------------

    async def _grant(self, frame: frames.Credit) -> None:
        name = frame.queue or self._queue
        if not name:
            raise Malformed("name the queue that the credit is for")
        credit_bytes = CREDIT_BYTES if frame.bytes is None else frame.bytes
        stream = self._streams.get(name)
        if stream is not None:
            stream.grant(frame.messages, credit_bytes, frame.lease_seconds)
            return
        if self._broker.draining:
            raise ShuttingDown(Ending.DRAIN.value)
        check_bounds("number of queues", len(self._streams) + 1, 1, QUEUES)
        stream = await self._broker.stream(
            name, self._actor, lease_seconds=frame.lease_seconds, turns=self._turns
        )
        stream.grant(frame.messages, credit_bytes)
        self._streams[name] = stream
        self._start(self._deliver(stream))

    async def _deliver(self, stream: Stream) -> None:
        with stream:
            while deliveries := await stream.next():
                try:
                    await self._socket.send(self._notifications(stream, deliveries))
                except (SocketClosed, asyncio.CancelledError):
                    stream.give_back(deliveries)
                    raise

    def _notifications(self, stream: Stream, deliveries: list[Delivery]) -> str | bytes:
        if self._subprotocol == frames.TEXT:
            items = [to_notification(stream.session, one) for one in deliveries]
            frame = frames.Notifications(queue=stream.queue, notifications=items)
            return frames.write(frame, self._subprotocol)
        raw = [
            frames.FramedNotification(body_bytes=len(one.body), **members(stream.session, one))
            for one in deliveries
        ]
        frame = frames.Notifications(queue=stream.queue, notifications=raw)
        return frames.write(frame, self._subprotocol, [one.body for one in deliveries])

    # -- settling and publishing ----------------------------------------------------------------

    async def _settled(
        self, frame: frames.SettleFrame, settling: Settling
    ) -> frames.AnyServerFrame:
        results = await settling.results()
        items = [
            to_item(queue, item.lease, result)
            for queue, item, result in zip(settling.queues, frame.items, results, strict=True)
        ]
        return frames.Settled(ref=frame.ref, items=items)

    async def _published(
        self, frame: frames.Publish, bodies: Sequence[bytes | None]
    ) -> frames.AnyServerFrame:
        results: list[PublishedItem | None] = [None] * len(bodies)
        publications: list[Publication] = []
        places: list[int] = []
        for index, (item, body) in enumerate(zip(frame.notifications, bodies, strict=True)):
            try:
                publications.append(to_publication(item, body))
                places.append(index)
            except RestanteError as error:
                results[index] = to_result(error)
        if publications:
            appended = await self._broker.publish_batch(publications, self._actor)
            for index, result in zip(places, appended, strict=True):
                results[index] = to_result(result)
        return frames.Published(
            ref=frame.ref, results=[result for result in results if result is not None]
        )

    def _answer_later(
        self,
        incoming: frames.Incoming,
        items: int,
        work: Coroutine[None, None, frames.AnyServerFrame],
    ) -> None:
        size = sum(len(part) for part in incoming.parts if part is not None)
        # Counted here and not when its turn comes: before that, more may be read.
        self._under_way += items
        self._bytes_under_way += size
        self._start(self._answer(incoming.frame.ref, items, size, work))

    async def _answer(
        self, ref: str, items: int, size: int, work: Coroutine[None, None, frames.AnyServerFrame]
    ) -> None:
        try:
            try:
                frame = await work
            except RestanteError as error:
                frame = frames.error_of(error, ref)
            await self._send(frame)
        finally:
            self._under_way -= items
            self._bytes_under_way -= size
            if self._room is not None and not self._room.done():
                self._room.set_result(None)

    # -- the connection -------------------------------------------------------------------------

    async def _send(self, frame: frames.AnyServerFrame) -> None:
        await self._socket.send(frames.write(frame, self._subprotocol))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # SocketClosed is the other side's leaving: who reads from it hears of that too.
        if error is not None and not isinstance(error, SocketClosed):
            _log.error("websocket.failed", client=self._actor.name, exc_info=error)

    async def _stop(self) -> None:
        """End what is still going on: what was begun in the store is finished there, and nobody is told."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, ending: Ending) -> None:
        self._start(self._leave(ending))

    async def _leave(self, ending: Ending) -> None:
        for stream in self._streams.values():
            stream.end()
        if ending is Ending.DRAIN:
            # The client settles what it holds and closes; when it does not, the server closes in the end.
            seconds = self._broker.attachments.reconnect_after_seconds()
            await self._send(frames.Drain(reconnect_after_seconds=seconds))
            return
        await self._send(frames.error_of(Unauthenticated(ending.value), ""))
        await self._socket.close(POLICY, Unauthenticated.code)


def _settles(incoming: frames.Incoming) -> list[Settle]:
    match incoming.frame:
        case frames.Ack(items=items):
            return [
                Settle(
                    lease=item.lease,
                    verb=Verb.ACK,
                    reply=reply,
                    reply_content_type=item.reply_content_type,
                    signature=to_signature(item.signature),
                )
                for item, reply in zip(items, incoming.parts, strict=True)
            ]
        case frames.Nack(items=nacks):
            return [
                Settle(
                    lease=item.lease,
                    verb=Verb.NACK,
                    reason=item.reason,
                    retry_after_seconds=item.retry_after,
                    signature=to_signature(item.signature),
                )
                for item in nacks
            ]
        case frames.Reject(items=rejects):
            return [
                Settle(
                    lease=item.lease,
                    verb=Verb.REJECT,
                    reason=item.reason,
                    signature=to_signature(item.signature),
                )
                for item in rejects
            ]
        case frames.Extend(items=extends):
            return [
                Settle(lease=item.lease, verb=Verb.EXTEND, lease_seconds=item.lease_seconds)
                for item in extends
            ]
        case frames.Release(items=releases):
            return [Settle(lease=item.lease, verb=Verb.RELEASE) for item in releases]
        case _:
            return []
