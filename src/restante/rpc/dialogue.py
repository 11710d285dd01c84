"""A call that is a stream both ways: requests are carried out in their order, and answered when they are done.

What gets done while a response is being written, or within one turn of the loop, is answered in the next response
together. When too much is under way nothing is read until there is room: the client is held back, and needs no memory
of ours.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Final, Generic, TypeVar

from google.protobuf.message import Message

from restante.engine.attachments import Attachment, Ending
from restante.engine.broker import Broker
from restante.engine.under_way import UnderWay
from restante.errors import RestanteError
from restante.model import Actor
from restante.rpc.handing_out import drain_of, error_of
from restante.rpc.link import TwoWay
from restante.rpc.messages import REF_CHARACTERS, check_ref
from restante.wire.proto import restante_pb2 as pb

ITEMS_UNDER_WAY: Final = 10_000
"""Settlements or notifications of one stream whose answer has not been sent."""
BYTES_UNDER_WAY: Final = 32 * 1024 * 1024
"""Of the requests of one stream that are not done."""
ITEMS_IN_RESPONSE: Final = 2_000
"""Answered at once, so that a response stays small; a larger answer is alone."""
Q = TypeVar("Q", bound=pb.ReceiveRequest | pb.PublishStreamRequest)
A = TypeVar("A", bound=Message)
R = TypeVar("R")


class Dialogue(ABC, Generic[Q, A]):
    """One such call. ``serve`` it; ``end`` and ``told`` may come from elsewhere meanwhile."""

    response: ClassVar[type[Any]]
    """Has ``answers`` and ``drain``."""

    def __init__(self, broker: Broker, actor: Actor, link: TwoWay[Q]) -> None:
        self._broker = broker
        self._actor = actor
        self._link = link
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self._answers: deque[tuple[int, A]] = deque()
        self._drain: pb.Drain | None = None
        self._flushing = False
        self._items = 0
        self._bytes = 0
        self._change: asyncio.Future[None] | None = None

    async def serve(self) -> None:
        """From the first request to the last answer. Raises what the call ends with."""
        with self._broker.attachments.attach(self._actor, self.told) as attachment:
            try:
                self._start(self._serve(attachment))
                await self._over
            finally:
                await self._stop()

    def end(self, error: BaseException) -> None:
        """End the call at once with this."""
        if not self._over.done():
            self._over.set_exception(error)

    def told(self, ending: Ending) -> None:
        """The service ends the call, or would have it come to its end."""
        may_finish = self._leave(ending)
        if ending is Ending.DRAIN and may_finish:
            self._drain = drain_of(self._broker)
            self._flush()
        else:
            self.end(error_of(ending))

    # -- what calls differ in -------------------------------------------------------------------

    @abstractmethod
    async def _converse(self, attachment: Attachment) -> None:
        """Carry out what is asked until the client has closed its side. Raises what the call ends with."""

    @abstractmethod
    def _leave(self, ending: Ending) -> bool:
        """Begin nothing new; False when there is nothing that a client would have to finish."""

    @abstractmethod
    def _refusal(self, ref: str, error: RestanteError) -> A:
        """The answer to a request of which nothing was done."""

    # -- reading --------------------------------------------------------------------------------

    async def _serve(self, attachment: Attachment) -> None:
        await self._converse(attachment)
        while self._items:
            await self._wait_for_change()
        if not self._over.done():
            self._over.set_result(None)

    async def _carry_out_all(self, carry_out: Callable[[Q], Awaitable[None]]) -> None:
        """Have every request carried out, or begun, by a function that raises what it refuses it with."""
        while (request := await self._link.read()) is not None:
            if wait_seconds := self._broker.rates.wait_seconds(self._actor):
                await self._broker.clock.wait(wait_seconds)
            try:
                check_ref(request.ref)
                await carry_out(request)
            except RestanteError as error:
                self._items += 1
                self._answer(1, 0, self._refusal(request.ref[:REF_CHARACTERS], error))
            while self._items > ITEMS_UNDER_WAY or self._bytes > BYTES_UNDER_WAY:
                await self._wait_for_change()

    def _begun(
        self, ref: str, items: int, size: int, batch: UnderWay[R], answer: Callable[[], A]
    ) -> None:
        """The batch of a request, of so many items and bytes, is under way: answer when its results are known."""
        self._items += items
        self._bytes += size

        def known() -> None:
            try:
                done = answer()
            except RestanteError as error:
                done = self._refusal(ref, error)
            except Exception as error:  # noqa: BLE001  # the call ends with it, and it is logged there
                self.end(error)
                return
            self._answer(items, size, done)

        batch.when_known(known)

    # -- writing --------------------------------------------------------------------------------

    def _answer(self, items: int, size: int, answer: A) -> None:
        self._bytes -= size
        self._answers.append((items, answer))
        self._flush()

    async def _send(self, **members: Any) -> None:
        """Send a response with these members, and with the answers that are there. Raises ``LinkClosed``."""
        async with self._writing:
            answers: list[A] = []
            items = 0
            while self._answers and (not items or items + self._answers[0][0] <= ITEMS_IN_RESPONSE):
                count, answer = self._answers.popleft()
                items += count
                answers.append(answer)
            drain, self._drain = self._drain, None
            await self._link.write(self.response(answers=answers, drain=drain, **members))
        self._items -= items
        self._changed()

    def _flush(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._start(self._send_answers())

    async def _send_answers(self) -> None:
        while self._answers or self._drain is not None:
            await self._send()
        self._flushing = False

    # -- tasks ----------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.end(error)

    async def _stop(self) -> None:
        """End what is still going on: what was begun in the store is finished there, and nobody is told."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self._over.cancelled() and self._over.done():
            # Looked at, in case that the client left in the same moment.
            self._over.exception()

    async def _wait_for_change(self) -> None:
        self._change = asyncio.get_running_loop().create_future()
        await self._change

    def _changed(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
