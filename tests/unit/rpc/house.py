"""The other end of a call, in the test's hands."""

import asyncio
from typing import Any

from restante.rpc.link import LinkClosed
from restante.wire.proto import restante_pb2 as pb


class Link:
    """What the client says is put into it; what it is told is in ``written``.

    While it is ``stuck`` a write does not end, as when a client does not read. ``vanish`` is a client that is gone.
    """

    def __init__(self):
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        self.written = []
        self.stuck: asyncio.Future[None] | None = None
        self.left = False
        self.watchers = []

    # -- the service's side ---------------------------------------------------------------------

    async def read(self):
        return await self.said.get()

    async def write(self, message):
        if self.left:
            raise LinkClosed
        if self.stuck is not None:
            await self.stuck
        if self.left:
            raise LinkClosed
        self.written.append(message)

    def gone(self):
        return self.left

    def watch(self, on_gone):
        self.watchers.append(on_gone)
        return lambda: self.watchers.remove(on_gone)

    # -- the client's side ----------------------------------------------------------------------

    def say(self, request):
        self.said.put_nowait(request)

    def close(self):
        self.said.put_nowait(None)

    def vanish(self):
        self.left = True
        for on_gone in list(self.watchers):
            on_gone()

    def hold(self):
        self.stuck = asyncio.get_running_loop().create_future()

    def let_go(self):
        stuck, self.stuck = self.stuck, None
        if stuck is not None:
            stuck.set_result(None)

    @property
    def notifications(self):
        return [one for message in self.written for one in message.notifications]

    @property
    def answers(self):
        return [one for message in self.written for one in message.answers]

    @property
    def bodies(self):
        return [one.body for one in self.notifications]


def ack(*notifications, ref="r", **said):
    """A request that acks these."""
    settle = [pb.Settlement(lease=one.lease, ack=pb.Ack(**said)) for one in notifications]
    return pb.ReceiveRequest(ref=ref, settle=settle)


def first(messages=10, queue="acme", **said):
    """The request that opens a stream."""
    bytes_ = said.pop("bytes", None)
    seconds = said.pop("lease_seconds", None)
    credit = pb.Credit(messages=messages, bytes=bytes_, lease_seconds=seconds)
    return pb.ReceiveRequest(queue=queue, credit=credit, **said)
