"""Receipts: found by client, time, outcome or id, and handed out as CSV or JSON lines, however many they are."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import urllib.parse
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from restante.desk.site import HEADERS, Call, MenuItem, Site
from restante.engine.broker import Broker
from restante.errors import Malformed, QueueNotFound, TooManyConnections
from restante.http.answers import Answer
from restante.http.api import Routes, Sendable
from restante.http.request import Request, SendMessage
from restante.model import NAME, Outcome, Receipt, Role
from restante.queries import Queues, ReceiptByNumber, Receipts, StoredReceipt
from restante.wire import times
from restante.wire.receipts import decode_entry, receipt_id, to_json

PAGE: Final = 50
EXPORTED: Final = 500
"""An export reads so many at a time, and sends them before it reads more."""
EXPORTS: Final = 8
CLOCKS_APART_MS: Final = 3_600_000
"""As much earlier and later receipts are looked for: one node's clock may be behind another's, or be set back."""
QUEUES: Final = 200
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS: Final = ("id", *Receipt.__struct_fields__, "digest")


class Wanted(NamedTuple):
    """``name`` is a queue's or a client's; times in milliseconds since 1970, the first inclusive, the last not."""

    name: str = ""
    outcome: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Row(NamedTuple):
    """A receipt as it is shown. ``place`` is where in the log it is; None: not sealed yet."""

    id: str
    entry: Receipt
    place: int | None


def add_routes(routes: Routes, desk: Site) -> None:
    """Attach the page and the export."""
    desk.menu.append(MenuItem("Receipts", "/receipts"))
    desk.page(routes, "/receipts", page)
    desk.page(routes, "/receipts/export", Exports().begin)


async def page(call: Call) -> Answer:
    """What is asked for, the newest first."""
    broker, query = call.desk.broker, call.request.query
    wanted = _of_theirs(call, wanted_by(call.request))
    queues = await _queues_of(call, wanted.name) if wanted.name else []
    queue = query.get("queue", "")
    queue = queue if queue in queues else queues[0] if queues else ""
    rows: list[Row] = []
    after = None
    if queue:
        begin, end = await bounds_of(broker, queue, wanted)
        before = call.request.integer("before", 0, 0, 2**62) or end
        found = await broker.store.browse(
            Receipts(queue, before, PAGE, newest_first=True, **_conditions(wanted))
        )
        places = await broker.log.places(queue, (one.number for one in found.receipts))
        rows = [
            Row(receipt_id(queue, one.number), decode_entry(one.entry), places.get(one.number))
            for one in found.receipts
        ]
        after = found.next if found.next is not None and found.next > begin else None
    return call.render(
        "receipts.html",
        wanted=wanted,
        since=query.get("since", ""),
        until=query.get("until", ""),
        queues=queues,
        queue=queue,
        rows=rows,
        next=after,
        outcomes=[outcome.value for outcome in Outcome],
        query=_query(call.request),
    )


class Form(NamedTuple):
    """How receipts are written: ``write`` makes lines of some of them."""

    ending: str
    media: bytes
    head: bytes
    write: Callable[[Sequence[StoredReceipt]], bytes]


class Exports:
    """Those that are under way: no more than ``EXPORTS`` at once."""

    def __init__(self) -> None:
        self.open = 0

    async def begin(self, call: Call) -> Sendable:
        """All that is asked for, queue by queue, the oldest first."""
        wanted = _of_theirs(call, wanted_by(call.request))
        queues = await _queues_of(call, wanted.name)
        if not queues:
            raise QueueNotFound(f"there is no client or queue {wanted.name[:128]}")
        form = _FORMS.get(call.request.query.get("format", "csv"))
        if form is None:
            raise Malformed(f"format must be one of {', '.join(_FORMS)}")
        if self.open >= EXPORTS:
            raise TooManyConnections(
                f"{EXPORTS} exports are under way: try again when one has ended"
            )
        return Export(self, call, queues, wanted, form)


class Export:
    """An answer that ends as it should only when it is whole: one that breaks off leaves the connection broken.

    It breaks off where who asked for it has hung up, or has signed out, and where the service ends.
    """

    def __init__(
        self, exports: Exports, call: Call, queues: Sequence[str], wanted: Wanted, form: Form
    ) -> None:
        self._exports = exports
        self._call = call
        self._queues = queues
        self._wanted = wanted
        self._form = form

    async def send(self, send: SendMessage) -> None:
        self._exports.open += 1
        unwatch = self._call.request.watch(lambda: None)
        try:
            await self._send(send)
        finally:
            unwatch()
            self._exports.open -= 1

    async def _send(self, send: SendMessage) -> None:
        form = self._form
        name = f'attachment; filename="receipts-{self._wanted.name}.{form.ending}"'.encode()
        headers = [
            *HEADERS,
            (b"content-type", form.media),
            (b"content-disposition", name),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": form.head, "more_body": True})
        async for some in self._pages():
            if await self._is_over():
                return
            if some:
                lines = form.write(some)
                await send({"type": "http.response.body", "body": lines, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _is_over(self) -> bool:
        desk = self._call.desk
        if self._call.request.gone() or desk.broker.retiring.is_set():
            return True
        return await desk.visitors.level(self._call.visitor.visit) is None

    async def _pages(self) -> AsyncIterator[list[StoredReceipt]]:
        for queue in self._queues:
            begin, end = await bounds_of(self._call.desk.broker, queue, self._wanted)
            after: int | None = begin - 1
            while after is not None and (end is None or after < end - 1):
                found = await self._call.desk.broker.store.browse(
                    Receipts(queue, after, EXPORTED, **_conditions(self._wanted))
                )
                yield found.receipts
                after = found.next


def wanted_by(request: Request) -> Wanted:
    """What the query asks for. Raises ``Malformed``."""
    query = request.query
    outcome = query.get("outcome") or None
    if outcome is not None and outcome not in set(Outcome):
        raise Malformed(f"outcome must be one of {', '.join(Outcome)}")
    name = query.get("name", "").strip()
    return Wanted(
        name if NAME.fullmatch(name) else "",
        outcome,
        _moment(request, "since"),
        _moment(request, "until"),
    )


def _moment(request: Request, name: str) -> int | None:
    """A field for a time, in UTC where it does not say otherwise."""
    text = request.query.get(name, "").strip()
    if not text:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise Malformed(f"{name} must be a time such as 2026-01-31T12:00") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1_000)


async def bounds_of(broker: Broker, queue: str, wanted: Wanted) -> tuple[int, int | None]:
    """The number of the first receipt that can be of the time wanted, and the first that can be no more; None: no end.

    Receipts have rising numbers and, but for clocks, rising times: so they are found by halves, not by walking there.
    """
    begin, end = 1, None
    if wanted.since_ms is not None:
        begin = await _first_from(broker, queue, wanted.since_ms - CLOCKS_APART_MS)
    if wanted.until_ms is not None:
        end = await _first_from(broker, queue, wanted.until_ms + CLOCKS_APART_MS)
    return begin, end


async def _first_from(broker: Broker, queue: str, at_ms: int) -> int:
    """The number of the queue's first receipt from that time on; one more than the last where there is none."""
    newest = await broker.store.browse(Receipts(queue, limit=1, newest_first=True))
    low, high = 1, 1 + (newest.receipts[0].number if newest.receipts else 0)
    while low < high:
        middle = (low + high) // 2
        found = await broker.store.browse(ReceiptByNumber(queue, middle))
        # Those that are past their retention are the oldest.
        if found is None or times.to_ms(decode_entry(found.entry).at) < at_ms:
            low = middle + 1
        else:
            high = middle
    return low


def _conditions(wanted: Wanted) -> dict[str, Any]:
    return {"outcome": wanted.outcome, "since_ms": wanted.since_ms, "until_ms": wanted.until_ms}


def _query(request: Request) -> str:
    """The search as it was asked for."""
    fields = ("name", "outcome", "since", "until")
    return urllib.parse.urlencode({f: request.query[f] for f in fields if request.query.get(f)})


def _of_theirs(call: Call, wanted: Wanted) -> Wanted:
    """A client that names nothing means itself."""
    if wanted.name or call.visitor.role is not Role.CLIENT:
        return wanted
    return wanted._replace(name=call.visitor.name)


async def _queues_of(call: Call, name: str) -> list[str]:
    """The queue of that name and those of the client of that name, as far as they are the visitor's to see."""
    broker, actor = call.desk.broker, call.visitor.actor
    owned = await broker.store.browse(Queues(limit=QUEUES, owner=name))
    with contextlib.suppress(QueueNotFound):
        owned = [await broker.directory.queue(name), *owned]
    if actor.role is Role.CLIENT:
        owned = [queue for queue in owned if queue.owner == actor.name]
    return list(dict.fromkeys(queue.name for queue in owned))


def to_csv(receipts: Sequence[StoredReceipt]) -> bytes:
    """Lines as RFC 4180 has them. What a spreadsheet would take for a formula has an apostrophe before it."""
    text = io.StringIO()
    writer = csv.writer(text)
    for one in receipts:
        told = msgspec.to_builtins(decode_entry(one.entry))
        told |= {"id": receipt_id(one.queue, one.number), "digest": one.digest.hex()}
        writer.writerow([_cell(told.get(column, "")) for column in _COLUMNS])
    return text.getvalue().encode()


def to_lines(receipts: Sequence[StoredReceipt]) -> bytes:
    """JSON lines: each the receipt as the interface serves it, so that its digest can be checked."""
    return b"".join(to_json(one) + b"\n" for one in receipts)


def _cell(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


_FORMS: Final = {
    "csv": Form("csv", b"text/csv; charset=utf-8", ",".join(_COLUMNS).encode() + b"\r\n", to_csv),
    "jsonl": Form("jsonl", b"application/jsonl", b"", to_lines),
}
