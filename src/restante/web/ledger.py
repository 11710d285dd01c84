"""Proof: that a receipt is in the log, that the log only grows, who signs it, and all of it to be taken away."""

from __future__ import annotations

from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.engine.log_export import LogExport
from restante.errors import QueueNotFound, ReceiptNotFound, ReceiptNotSealed
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Role
from restante.wire import times
from restante.wire.checkpoints import CONTENT_TYPE
from restante.wire.ledger_messages import ConsistencyOut, HeadList, KeyList, LedgerKeyOut
from restante.wire.receipts import parse_receipt_id

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1_000
WAIT_SECONDS: Final = 2
WAIT_MAXIMUM: Final = 30
_LINES: Final = b"application/x-ndjson"
_ANYBODY: Final = (Role.ADMIN, Role.CLIENT, Role.PUBLISHER)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls."""
    web = Ledger(broker)
    routes.add("GET", "/v1/receipts/{id}/proof", web.proof)
    routes.add("GET", "/v1/ledger/head", web.head)
    routes.add("GET", "/v1/ledger/heads", web.heads)
    routes.add("GET", "/v1/ledger/keys", web.keys)
    routes.add("GET", "/v1/ledger/consistency", web.consistency)
    routes.add("GET", "/v1/ledger/export", web.export)


class Ledger:
    """Whoever may see a receipt may have its proof. Heads and keys are for everybody who has a key of this service."""

    def __init__(self, broker: Broker) -> None:
        self._directory = broker.directory
        self._log = broker.log
        self._proofs = broker.proofs
        self._waiting = broker.waiting
        self._export = LogExport(broker.store, broker.clock, broker.log)

    async def proof(self, request: Request) -> Answer:
        text = request.parameters["id"]
        name, number = parse_receipt_id(text)
        try:
            auth.require_collect(request.actor, await self._directory.queue(name))
        except QueueNotFound as error:
            raise ReceiptNotFound(f"there is no receipt {text} here") from error
        wait = request.integer("wait", WAIT_SECONDS, 0, WAIT_MAXIMUM)
        try:
            proof = await self._log.proof(name, number)
        except ReceiptNotSealed:
            with self._waiting.enter(request.actor, wait) as waiter:
                proof = await self._proofs.proof(
                    waiter, name, number, request.actor, wait, hangup=request
                )
        return envelope(request, msgspec.Raw(proof), "proof")

    async def head(self, request: Request) -> Answer:
        auth.require(request.actor, *_ANYBODY)
        state = await self._log.state()
        return Answer(200, state.checkpoint.encode(), CONTENT_TYPE.encode())

    async def heads(self, request: Request) -> Answer:
        auth.require(request.actor, *_ANYBODY)
        limit = request.integer("limit", PAGE, 1, PAGE_MAXIMUM)
        begin = request.integer("after", -1, 0, 2**62)
        found = await self._log.heads(None if begin < 0 else begin, limit)
        after = found[-1][0] if len(found) == limit else None
        return envelope(request, HeadList(heads=[head for _, head in found], next=after), "heads")

    async def keys(self, request: Request) -> Answer:
        auth.require(request.actor, *_ANYBODY)
        keys = sorted(await self._log.keys(), key=lambda one: -one.since_ms)
        out = [LedgerKeyOut(key=one.key, since=times.to_text(one.since_ms)) for one in keys]
        return envelope(request, KeyList(keys=out), "keys")

    async def consistency(self, request: Request) -> Answer:
        auth.require(request.actor, *_ANYBODY)
        state = await self._log.state()
        new = request.integer("to", state.size, 1, 2**62)
        old = request.integer("from", new, 1, 2**62)
        path = await self._log.consistency(old, new)
        out = ConsistencyOut(
            old=old,
            new=new,
            path=[one.hex() for one in path],
            checkpoint=state.checkpoint,
        )
        return envelope(request, out, "consistency")

    async def export(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        page = await self._export.page(request.query.get("after", ""))
        headers = () if page.next is None else ((b"restante-next", page.next.encode()),)
        return Answer(200, b"".join(b"%s\n" % line for line in page.lines), _LINES, headers)
