"""The proof that a receipt is in the log, as a file: the same document that the interface serves."""

from __future__ import annotations

from restante import auth
from restante.desk.site import HEADERS, Call, Site
from restante.errors import QueueNotFound, ReceiptNotFound
from restante.http.answers import JSON, Answer
from restante.http.api import Routes
from restante.wire.receipts import parse_receipt_id, receipt_id


def add_routes(routes: Routes, site: Site) -> None:
    """Attach the file."""
    site.page(routes, "/receipts/{id}/proof", download)


async def download(call: Call) -> Answer:
    """``ReceiptNotFound``, also for another's, and ``ReceiptNotSealed``."""
    broker, id = call.desk.broker, call.request.parameters["id"]
    queue, number = parse_receipt_id(id)
    try:
        auth.require_collect(call.visitor.actor, await broker.directory.queue(queue))
    except QueueNotFound as error:
        raise ReceiptNotFound(f"there is no receipt {id[:160]} here") from error
    proof = await broker.log.proof(queue, number)
    name = f"proof-{receipt_id(queue, number)}.json"
    disposition = f'attachment; filename="{name}"'.encode()
    nosniff = (b"x-content-type-options", b"nosniff")
    no_store = (b"cache-control", b"no-store")
    headers = (*HEADERS, nosniff, no_store, (b"content-disposition", disposition))
    return Answer(200, proof, JSON, headers)
