"""Long poll: the way to collect that every platform with an HTTP client can take.

``receive`` answers with a batch in an envelope, ``next`` with one notification's bare payload. Both answer as soon as
there is something, or with nothing when the wait is over. A client that hangs up while it waits leaves no lease.
"""

from __future__ import annotations

from typing import Final

import msgspec

from restante.engine.broker import Broker
from restante.errors import Malformed
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.delivering import to_headers, to_notification
from restante.http.once import Once
from restante.http.request import Request
from restante.http.settling import to_items, to_settles
from restante.wire.messages import Receive, Received

NAME: Final = "http"
NEXT_WAIT_SECONDS: Final = 20.0
_RECEIVE: Final = msgspec.json.Decoder(Receive)
_RECEIVE_DEFAULT: Final = Receive()


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the transport."""
    transport = LongPoll(broker)
    routes.add("POST", "/v1/queues/{queue}/receive", transport.receive, NAME, once=Once.REFUSED)
    routes.add("POST", "/v1/queues/{queue}/next", transport.next, NAME, once=Once.REFUSED)


class LongPoll:
    """The two calls."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def receive(self, request: Request) -> Answer:
        session = await self._broker.session(request.parameters["queue"], request.actor)
        asked = await request.read(_RECEIVE, _RECEIVE_DEFAULT)
        settling = None
        if asked.settle:
            session.check(asked.max, asked.wait, asked.lease)
            # Begun before the look and in the same breath: both share one transaction.
            settling = await session.settle(to_settles(asked.settle))
        deliveries = await session.receive(
            max=asked.max, wait_seconds=asked.wait, lease_seconds=asked.lease, hangup=request
        )
        received = Received(
            notifications=[
                to_notification(session, delivery, for_xml=request.wants_xml)
                for delivery in deliveries
            ],
            settled=None
            if settling is None or asked.settle is None
            else await to_items(settling, asked.settle),
        )
        return envelope(request, received, "received")

    async def next(self, request: Request) -> Answer:
        session = await self._broker.session(request.parameters["queue"], request.actor)
        if await request.body(0):
            raise Malformed("this call takes no body")
        deliveries = await session.receive(
            max=1,
            wait_seconds=request.number("wait", NEXT_WAIT_SECONDS),
            lease_seconds=request.number("lease", None),
            hangup=request,
        )
        if not deliveries:
            return Answer(204)
        delivery = deliveries[0]
        return Answer(
            200, delivery.body, delivery.content_type.encode(), to_headers(session, delivery)
        )
