"""Clients that stay connected, by WebSocket or by events, and write down what came and what they were told."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any, Literal

from tests.failure.clients import Caller, lease_of

from restante.bench.http import request_bytes
from restante.bench.specs import Target
from restante.bench.ways.events import EventStream
from restante.bench.ways.websocket import SocketConnection
from restante.testing.history import Action, Lease, Receive, Settle
from restante.wire import times

Kind = Literal["websocket", "events"]
CONNECT_SECONDS = 30.0
CLOCK_MS = 5
"""Wall clocks are read to the millisecond."""


class StreamCaller(Caller):
    """Collects over a stream; all else over HTTP, and settles too where the stream goes one way.

    A stream may be sent something at any time: a ``receive`` is on record from the moment it is attached, or from the
    last batch on, and is ended by the next batch or, as unknown, by the end of the connection.
    """

    kind: Kind = "websocket"
    credit = 5

    _link: SocketConnection | EventStream | None = None
    _standing: Receive | None = None
    _told_to_leave = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._arrived: list[Lease] = []
        self._seen: set[str] = set()
        self._came = asyncio.Event()
        self._refs = itertools.count(1)
        self._settling: dict[str, asyncio.Future[dict[str, Any] | None]] = {}
        self.last_event_id = ""

    @property
    def attached(self) -> bool:
        return self._link is not None

    async def attach(self) -> None:
        """Connect to the queue of this client's name. Raises OSError."""
        queue = self.who
        self._begin()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if self.kind == "websocket":
                    self._link = await self._socket(queue)
                else:
                    self._link = await self._events(queue)
        except BaseException:
            self._lost("never connected")
            raise

    async def _socket(self, queue: str) -> SocketConnection:
        target = Target(system="restante", port=self.port, pids=[])
        path = f"/v1/queues/{queue}/socket"
        link = await SocketConnection.open(target, path, self.key, "restante.v1", self._lost)
        link.on_message = self._message
        credit = {"type": "credit", "messages": self.credit}
        link.send(link.message(json.dumps(credit).encode()))
        return link

    async def _events(self, queue: str) -> EventStream:
        headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
        path = f"/v1/queues/{queue}/events?credit={self.credit}"
        request = request_bytes("GET", path, key=self.key, headers=headers)
        _, link = await asyncio.get_running_loop().create_connection(
            lambda: EventStream(request, self._event, self._lost), "127.0.0.1", self.port
        )
        await link.begun
        return link

    async def receive(
        self, queue: str, *, max: int = 10, wait: float = 0, lease: int | None = None
    ) -> list[Lease]:
        """What has come, waiting for it; none when the time is over or the connection is."""
        assert queue == self.who
        try:
            if self._link is None:
                await self.attach()
            async with asyncio.timeout(wait):
                while not self._arrived and not self._told_to_leave and self._link is not None:
                    self._came.clear()
                    await self._came.wait()
        except (OSError, TimeoutError):
            pass
        if self._told_to_leave and not self._arrived:
            # What it held it has settled by now, if it ever will.
            self.disconnect()
        got, self._arrived = self._arrived, []
        return got

    async def settle(self, lease: str, action: Action, **said: Any) -> Settle:
        """Over the WebSocket where there is one, else over HTTP."""
        link = self._link
        if not isinstance(link, SocketConnection):
            return await super().settle(lease, action, **said)
        call = Settle(
            lease=lease,
            action=action,
            retry_after_seconds=said.get("retry_after"),
            lease_seconds=said.get("lease_seconds"),
            who=self.who,
            role=self.role,
        )
        item = {name: value for name, value in said.items() if value not in {None, b""}}
        if reply := item.pop("reply", None):
            item["reply"] = reply.decode()
        ref = f"s{next(self._refs)}"
        frame = {"type": action, "ref": ref, "items": [{"lease": lease, **item}]}
        answer: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._settling[ref] = answer
        self.recorder.begin(call)
        link.send(link.message(json.dumps(frame).encode()))
        result = await answer
        if result is None:
            self.recorder.end(call, "unknown", "no_answer")
        elif result["ok"]:
            self._settled(call, result)
        else:
            self.recorder.refused(call, result["code"])
        return call

    def disconnect(self) -> None:
        """Be gone, without a word."""
        super().disconnect()
        if self._link is not None:
            link, self._link = self._link, None
            link.close()
            self._lost("gone")

    # -- what comes -----------------------------------------------------------------------------

    def _begin(self) -> None:
        call = Receive(queue=self.who, max=self.credit, who=self.who, role=self.role)
        self._standing = self.recorder.begin(call)

    def _take_in(self, items: list[dict[str, Any]]) -> None:
        assert self._standing is not None
        # What a stream of events sends again is under the lease it had: seen once, written down once.
        fresh = [item for item in items if item["lease"] not in self._seen]
        self._seen.update(item["lease"] for item in fresh)
        lease_seconds = self.leases[self.who]
        leases = [lease_of(item, lease_seconds) for item in fresh]
        if leases:
            self._standing.leases = leases
            # Several batches may come at once: the later ones were leased before the first was taken in.
            leased = min(_leased_ns(item, lease_seconds) for item in fresh)
            self._standing.start = min(self._standing.start, leased)
            self.recorder.end(self._standing, "ok")
            self._begin()
            self._arrived += leases
            self._came.set()

    def _message(self, message: bytes) -> None:
        frame = json.loads(message)
        match frame["type"]:
            case "notifications":
                self._take_in(frame["notifications"])
            case "settled":
                self._settling.pop(frame["ref"]).set_result(frame["items"][0])
            case "error" if frame.get("ref") in self._settling:
                self._settling.pop(frame["ref"]).set_result({"ok": False, **frame})
            case "drain":
                self._told_to_leave = True
                self._came.set()

    def _event(self, event: bytes) -> None:
        for line in event.split(b"\n"):
            if line.startswith(b"id: "):
                self.last_event_id = line[4:].decode()
            elif line.startswith(b"data: "):
                self._take_in([json.loads(line[6:])])

    def _lost(self, reason: str) -> None:
        self._link = None
        self._told_to_leave = False
        if self._standing is not None:
            self.recorder.end(self._standing, "unknown", "no_answer")
            self._standing = None
        for answer in self._settling.values():
            if not answer.done():
                answer.set_result(None)
        self._settling.clear()
        self._came.set()


class EventCaller(StreamCaller):
    kind: Kind = "events"


def _leased_ns(item: dict[str, Any], lease_seconds: float) -> int:
    """When it was leased, by what it says of its end, on the clock of histories."""
    until_ms = times.to_ms(item["lease_until"])
    ago_ms = time.time() * 1_000 - until_ms + lease_seconds * 1_000
    return time.monotonic_ns() - int((ago_ms + CLOCK_MS) * 1_000_000)


CALLERS: dict[str, type[Caller]] = {
    "http": Caller,
    "websocket": StreamCaller,
    "events": EventCaller,
}
