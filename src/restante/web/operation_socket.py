"""Many operations watched on one WebSocket: each is told of as it stands, and with every change, to its end.

A frame that cannot be carried out is answered with an ``error`` frame, and the connection goes on. Who is slow to read
is told less, for each operation its latest state. Each operation that is read counts as a request of the client's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final

import msgspec

from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.operation_watches import WATCHED, Kept, Watch
from restante.errors import Malformed, RestanteError, Unauthenticated
from restante.http.api import Routes
from restante.http.events import HEARTBEAT_SECONDS
from restante.http.socket import POLICY, Socket, SocketClosed
from restante.model import check_bounds
from restante.wire import frames
from restante.wire.choices import explained
from restante.wire.operation_messages import (
    SUBPROTOCOL,
    OperationFrame,
    WatchFrame,
    WatchOperations,
    operation_out,
    read_frame,
)

MESSAGE_BYTES: Final = 256 * 1024
_encode = msgspec.json.Encoder().encode


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach it."""

    def serve(socket: Socket) -> Coroutine[None, None, None]:
        return OperationSocket(broker, socket).serve()

    routes.add_socket("/v1/operations/socket", serve, "websocket")


class OperationSocket:
    """One connection of one principal."""

    def __init__(self, broker: Broker, socket: Socket) -> None:
        self._broker = broker
        self._socket = socket
        self._actor = socket.actor
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """From the handshake to the end of the connection."""
        if SUBPROTOCOL not in self._socket.subprotocols:
            raise Malformed(f"ask for the subprotocol: Sec-WebSocket-Protocol: {SUBPROTOCOL}")
        with self._broker.operations.watches.watch(self._actor.key_id) as watch:
            attachment = self._broker.attachments.attach(self._actor, lambda _: watch.end())
            with attachment:
                await self._socket.accept(SUBPROTOCOL, max_message_bytes=MESSAGE_BYTES)
                telling = asyncio.create_task(self._tell(watch))
                try:
                    await self._read(watch)
                except SocketClosed:
                    return
                finally:
                    telling.cancel()
                    await asyncio.gather(telling, return_exceptions=True)

    async def _read(self, watch: Watch) -> None:
        while True:
            message = await self._socket.receive()
            await self._hold_back()
            try:
                frame = _frame(message)
            except Malformed as error:
                await self._send(frames.error_of(error, ""))
                continue
            try:
                check_bounds("length of ref", len(frame.ref), 0, frames.REF_CHARACTERS)
                check_bounds("number of ids", len(frame.ids), 1, WATCHED)
            except RestanteError as error:
                await self._send(frames.error_of(error, frame.ref[: frames.REF_CHARACTERS]))
                continue
            if isinstance(frame, WatchOperations):
                await self._watch(watch, frame)
            else:
                for id in frame.ids:
                    watch.drop(id)

    async def _hold_back(self) -> None:
        if wait_seconds := self._broker.rates.wait_seconds(self._actor):
            await self._broker.clock.wait(wait_seconds)

    async def _watch(self, watch: Watch, frame: WatchOperations) -> None:
        counted = True  # The first, with the frame.
        for id in dict.fromkeys(frame.ids):
            if id in watch:
                continue  # It has been told how that stands, and is told of each change.
            if not counted:
                await self._hold_back()
            counted = False
            await self._begin(watch, id, frame.ref)

    async def _begin(self, watch: Watch, id: str, ref: str) -> None:
        try:
            kept = await self._broker.operations.watch(watch, id, self._actor)
        except RestanteError as error:
            await self._send(frames.error_of(error, ref))
        else:
            if watch.seen(kept):
                await self._send(_told(kept))

    async def _tell(self, watch: Watch) -> None:
        try:
            while not watch.ended:
                if (kept := await watch.next(HEARTBEAT_SECONDS)) is not None:
                    await self._send(_told(kept))
            await self._leave()
        except SocketClosed:
            return  # Who reads from it hears of that too.

    async def _leave(self) -> None:
        if self._broker.draining:
            seconds = self._broker.attachments.reconnect_after_seconds()
            await self._send(frames.Drain(reconnect_after_seconds=seconds))
            return
        await self._send(frames.error_of(Unauthenticated(Ending.KEY_ENDED.value), ""))
        await self._socket.close(POLICY, Unauthenticated.code)

    async def _send(self, frame: frames.ServerFrame) -> None:
        # In order: of what waits for who reads slowly, nothing overtakes what it is newer than.
        async with self._sending:
            await self._socket.send(_encode(frame).decode())


def _told(kept: Kept) -> OperationFrame:
    return OperationFrame(operation=operation_out(*kept))


def _frame(message: str | bytes) -> WatchFrame:
    if not isinstance(message, str):
        raise Malformed(f"{SUBPROTOCOL} has text messages only")
    try:
        return read_frame(message)
    except msgspec.ValidationError as error:
        raise Malformed(
            f"not a frame that is expected here: {explained(error, WatchFrame)}"
        ) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error
