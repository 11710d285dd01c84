"""The receipt of one notification as a document to print or to keep: one page by itself, which loads nothing.

It holds what an auditor needs to check it without this server: what was published, each receipt with its digest, the
clients' own signatures with the texts that they are over, the keys, and the proof that how it ended is in the log.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.resources
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from restante.desk.site import HTML, Call, Site
from restante.desk.templates import environment
from restante.engine.bodies import find_notification
from restante.engine.broker import Broker
from restante.errors import ReceiptNotFound, ReceiptNotSealed
from restante.http.answers import Answer, Header
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Actor, Receipt, Role
from restante.queries import ReceiptsOf, StoredReceipt
from restante.wire import proofs
from restante.wire.client_signatures import SigningKey, receipt_text
from restante.wire.receipts import decode_entry, receipt_id

RECEIPTS: Final = 500
"""So many are printed of one notification."""
_STYLE: Final = importlib.resources.files("restante.desk") / "static" / "printed.css"


class Line(NamedTuple):
    """One receipt. ``signed_text`` is what the client's own signature is over; empty where it bears none."""

    id: str
    entry: Receipt
    digest: str
    signed_text: str


class Proof(NamedTuple):
    """What shows that a receipt is in the log: its place, the hashes that lead to the root, and the signed head."""

    id: str
    place: int
    path: tuple[str, ...]
    checkpoint: str


class KeyOf(NamedTuple):
    """A key by which one of the signatures was verified, and whose it is."""

    client: str
    key: SigningKey


class Printer:
    """Makes the document. It has its style in it, and may load and do nothing."""

    def __init__(self, broker: Broker, version: str) -> None:
        self._broker = broker
        style = _STYLE.read_text()
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
            " form-action 'none'; frame-ancestors 'none'"
        )
        self._headers: tuple[Header, ...] = (
            (b"content-security-policy", policy.encode()),
            (b"referrer-policy", b"no-referrer"),
        )
        # Its own text, and not a visitor's: it is to stand as it is.
        known = {"style": Markup(style), "version": version}  # noqa: S704
        self._template = environment(["restante.desk"], **known).get_template("printed.html")

    async def document(self, id: str, actor: Actor) -> Answer:
        """The receipt of that notification, as far as it is the actor's to see. ``NotificationNotFound``."""
        broker = self._broker
        found = await find_notification(broker, id, actor)
        owner = actor.name if actor.role is Role.CLIENT else None
        told = await broker.store.browse(ReceiptsOf(found.id, owner, RECEIPTS + 1))
        by_queue: dict[str, list[Line]] = {}
        for one in told[:RECEIPTS]:
            by_queue.setdefault(one.queue, []).append(_line(one))
        deliveries = [one for one in found.deliveries if one.queue in by_queue]
        text = self._template.render(
            found=found,
            deliveries=deliveries,
            lines=by_queue,
            keys=await self._keys(by_queue),
            proofs=await self._proofs(by_queue),
            others=len(found.deliveries) - len(deliveries),
            complete=len(told) <= RECEIPTS,
            at_ms=broker.clock.wall_ms(),
            by=actor.name,
        )
        return Answer(200, text.encode("utf-8", "replace"), HTML, self._headers)

    async def _proofs(self, by_queue: dict[str, list[Line]]) -> list[Proof]:
        """Of how it ended in each queue: those that are in the log by now."""
        found: list[Proof] = []
        for lines in by_queue.values():
            last = lines[-1]
            with contextlib.suppress(ReceiptNotFound, ReceiptNotSealed):
                proof = proofs.read(
                    await self._broker.log.proof(last.entry.queue, last.entry.number)
                )
                found.append(Proof(last.id, proof.index, proof.path, proof.checkpoint))
        return found

    async def _keys(self, by_queue: dict[str, list[Line]]) -> list[KeyOf]:
        found: dict[str, KeyOf] = {}
        for queue, lines in by_queue.items():
            wanted = {line.entry.signature_key for line in lines if line.entry.signature}
            if wanted - found.keys():
                client = (await self._broker.directory.queue(queue)).owner
                for key in await self._broker.signing_keys.of(client):
                    if key.id in wanted:
                        found[key.id] = KeyOf(client, key)
        return list(found.values())


def add_routes(routes: Routes, site: Site, version: str) -> None:
    """Attach the page of a site, for whoever may see the notification."""
    printer = Printer(site.broker, version)

    async def page(call: Call) -> Answer:
        return await printer.document(call.request.parameters["id"], call.visitor.actor)

    site.page(routes, "/notifications/{id}/receipt", page)


def add_call(routes: Routes, broker: Broker, version: str) -> None:
    """Attach the same as a call, for programs that keep what it answers."""
    printer = Printer(broker, version)

    async def call(request: Request) -> Answer:
        return await printer.document(request.parameters["id"], request.actor)

    routes.add("GET", "/v1/notifications/{id}/receipt", call)


def _line(stored: StoredReceipt) -> Line:
    entry: Any = decode_entry(stored.entry)
    text = receipt_text(entry).decode() if entry.signature else ""
    return Line(receipt_id(stored.queue, stored.number), entry, stored.digest.hex(), text)
