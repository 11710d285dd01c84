"""Settling over HTTP: one lease at a time by its token, or many of one queue."""

from __future__ import annotations

from typing import Final

import msgspec

from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.errors import RestanteError
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.once import Once
from restante.http.request import Request
from restante.http.settling import to_item, to_items, to_settles
from restante.model import REPLY_BYTES, Verb
from restante.wire.client_signatures import HEADER, from_header
from restante.wire.messages import Extend, Nack, Nothing, Reject, SettleBatch, SettledBatch

_SIGNATURE: Final = HEADER.lower().encode()
_NACK: Final = msgspec.json.Decoder(Nack)
_REJECT: Final = msgspec.json.Decoder(Reject)
_EXTEND: Final = msgspec.json.Decoder(Extend)
_NOTHING: Final = msgspec.json.Decoder(Nothing)
_BATCH: Final = msgspec.json.Decoder(SettleBatch)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls by which a client signs."""
    web = SettleLeases(broker)
    # A lease is settled once, and a repeat answers as the first did.
    routes.add("POST", "/v1/leases/{lease}/ack", web.ack, once=Once.BY_ITSELF)
    routes.add("POST", "/v1/leases/{lease}/nack", web.nack, once=Once.BY_ITSELF)
    routes.add("POST", "/v1/leases/{lease}/reject", web.reject, once=Once.BY_ITSELF)
    routes.add("POST", "/v1/leases/{lease}/release", web.release, once=Once.BY_ITSELF)
    routes.add("POST", "/v1/leases/{lease}/extend", web.extend, once=Once.BY_ITSELF)
    routes.add("POST", "/v1/queues/{queue}/settle", web.batch, once=Once.BY_ITSELF)


class SettleLeases:
    """The six calls."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def ack(self, request: Request) -> Answer:
        reply = await request.body(REPLY_BYTES)
        content_type = (request.header(b"content-type") or "")[:255] if reply else ""
        settle = Settle(
            lease=request.parameters["lease"],
            verb=Verb.ACK,
            reply=reply or None,
            reply_content_type=content_type,
        )
        return await self._settle(request, settle)

    async def nack(self, request: Request) -> Answer:
        asked = await request.read(_NACK, Nack())
        settle = Settle(
            lease=request.parameters["lease"],
            verb=Verb.NACK,
            reason=asked.reason,
            retry_after_seconds=asked.retry_after,
        )
        return await self._settle(request, settle)

    async def reject(self, request: Request) -> Answer:
        asked = await request.read(_REJECT, Reject())
        settle = Settle(lease=request.parameters["lease"], verb=Verb.REJECT, reason=asked.reason)
        return await self._settle(request, settle)

    async def release(self, request: Request) -> Answer:
        await request.read(_NOTHING, Nothing())
        return await self._settle(
            request, Settle(lease=request.parameters["lease"], verb=Verb.RELEASE)
        )

    async def extend(self, request: Request) -> Answer:
        asked = await request.read(_EXTEND, Extend())
        settle = Settle(
            lease=request.parameters["lease"], verb=Verb.EXTEND, lease_seconds=asked.lease
        )
        return await self._settle(request, settle)

    async def batch(self, request: Request) -> Answer:
        session = await self._broker.session(request.parameters["queue"], request.actor)
        asked = await request.read(_BATCH)
        settles = to_settles(asked.settle)
        items = await to_items(await session.settle(settles), asked.settle)
        return envelope(request, SettledBatch(settled=items), "settled")

    async def _settle(self, request: Request, settle: Settle) -> Answer:
        signed = request.header(_SIGNATURE)
        if signed is not None:
            settle = msgspec.structs.replace(settle, signature=from_header(signed))
        settling = await self._broker.settle([settle], request.actor)
        (result,) = await settling.results()
        if isinstance(result, RestanteError):
            raise result
        return envelope(request, to_item(settling.queues[0], settle.lease, result), "settled")
