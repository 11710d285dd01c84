"""Clients that do things over HTTP and write down what they did and were told."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from tests.failure.http import Answer, Connection, NoAnswer, NotSent
from tests.failure.server import ADMIN_KEY, Reachable

from restante.testing.history import (
    Action,
    Configure,
    DeadLetters,
    FiguresRead,
    HeadRead,
    Lease,
    LogRead,
    NotificationRead,
    Operation,
    Place,
    Publish,
    ReceiptPage,
    Receive,
    Recorder,
    Role,
    Run,
    Settle,
    digest,
)
from restante.testing.invariants import MISSING_RESULT
from restante.wire import log_lines

T = TypeVar("T", bound=Operation)
PAGE = 1_000


class Caller:
    """A principal with one connection, opened when it is needed. Records every call."""

    def __init__(
        self,
        recorder: Recorder,
        leases: dict[str, float],
        *,
        who: str = "admin",
        role: Role = "admin",
        key: str = ADMIN_KEY,
    ) -> None:
        self.recorder = recorder
        # How long each queue leases for when a call does not say: shared by all callers of a test.
        self.leases = leases
        self.who = who
        self.role = role
        self.key = key
        self.port = 0
        self._connection: Connection | None = None

    def use(self, server: Reachable) -> Caller:
        """From now on talk to this server."""
        self.port = server.port
        self.disconnect()
        return self

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- calls without a record ------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        json: object = None,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One call. Raises NotSent or NoAnswer."""
        headers = dict(headers or {})
        if json is not None:
            body = msgspec.json.encode(json)
            headers["Content-Type"] = "application/json"
        if self._connection is None or self._connection.closed:
            self._connection = await Connection.open(self.port)
        return await self._connection.call(method, path, key=self.key, body=body, headers=headers)

    async def must(self, method: str, path: str, json: object = None) -> Any:
        """One call that has to succeed; the decoded answer."""
        answer = await self.call(method, path, json)
        assert 200 <= answer.status < 300, (method, path, answer)
        return msgspec.json.decode(answer.body) if answer.body else None

    # -- calls with a record ---------------------------------------------------------------------

    async def _recorded(
        self,
        operation: T,
        method: str,
        path: str,
        json: object = None,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer | None:
        """Begin, call, and end it unless it succeeded; the answer of a success."""
        operation.who, operation.role = self.who, self.role
        self.recorder.begin(operation)
        try:
            answer = await self.call(method, path, json, body=body, headers=headers)
        except NotSent:
            self.recorder.end(operation, "refused", "not_sent")
            return None
        except NoAnswer:
            self.recorder.end(operation, "unknown", "no_answer")
            return None
        if 200 <= answer.status < 300:
            return answer
        self._refused(operation, answer)
        return None

    def _refused(self, operation: Operation, answer: Answer) -> None:
        try:
            code = answer.json()["code"]
        except (msgspec.DecodeError, KeyError):
            self.recorder.end(operation, "unknown", f"status_{answer.status}")
        else:
            self.recorder.refused(operation, code)

    async def put_queue(self, queue: str, owner: str, **settings: Any) -> Configure:
        call = Configure(queue=queue, owner=owner, settings=settings)
        path = f"/v1/queues/{queue}"
        if answer := await self._recorded(call, "PUT", path, {"owner": owner, **settings}):
            call.settings = answer.json()["settings"]
            self.leases[queue] = call.settings["lease_seconds"]
            self.recorder.end(call, "ok")
        return call

    async def publish(
        self,
        body: bytes,
        *,
        queue: str | None = None,
        topic: str | None = None,
        content_type: str = "application/xml",
        key: str | None = None,
        ordering_key: str | None = None,
        deliver_after_seconds: float = 0,
    ) -> Publish:
        call = Publish(
            queue=queue,
            topic=topic,
            body_sha256=digest(body),
            content_type=content_type,
            key=key,
            ordering_key=ordering_key,
            deliver_after_seconds=deliver_after_seconds,
        )
        headers = {"Content-Type": content_type}
        if key is not None:
            headers["Idempotency-Key"] = key
        if ordering_key is not None:
            headers["Restante-Ordering-Key"] = ordering_key
        if deliver_after_seconds:
            headers["Restante-Deliver-After"] = str(deliver_after_seconds)
        path = f"/v1/queues/{queue}" if queue is not None else f"/v1/topics/{topic}"
        answer = await self._recorded(
            call, "POST", path + "/notifications", body=body, headers=headers
        )
        if answer is not None:
            call.replayed = answer.headers.get("idempotency-replayed") == "true"
            self._published(call, answer.json())
        return call

    def _published(self, call: Publish, result: dict[str, Any]) -> None:
        call.notification = result["id"]
        call.deliveries = [Place(place["queue"], place["seq"]) for place in result["deliveries"]]
        self.recorder.end(call, "ok")

    async def publish_batch(self, queue: str, bodies: Sequence[bytes]) -> list[Publish]:
        """Publish text bodies in one call; each item is recorded with its own result."""
        calls = [
            Publish(queue=queue, body_sha256=digest(body), content_type="application/xml")
            for body in bodies
        ]
        items = [
            {"queue": queue, "content_type": "application/xml", "body": body.decode()}
            for body in bodies
        ]
        results = await self._batch(calls, "/v1/notifications", {"notifications": items}, "results")
        for call, result in zip(calls, results, strict=True):
            if result is None:
                continue
            if result["ok"]:
                self._published(call, result)
            else:
                self.recorder.refused(call, result["code"])
        return calls

    async def _batch(
        self, calls: Sequence[Operation], path: str, json: object, results: str
    ) -> list[dict[str, Any] | None]:
        """Record each item as begun; those that get no result are ended here, as None says."""
        for call in calls:
            call.who, call.role = self.who, self.role
            self.recorder.begin(call)
        for call in calls:
            call.batch = calls[0].op
        try:
            answer = await self.call("POST", path, json)
        except (NotSent, NoAnswer) as error:
            known = isinstance(error, NotSent)
            for call in calls:
                self.recorder.end(call, "refused" if known else "unknown", type(error).__name__)
            return [None] * len(calls)
        if not 200 <= answer.status < 300:
            for call in calls:
                self._refused(call, answer)
            return [None] * len(calls)
        return self._each(calls, answer.json()[results])

    def _each(
        self, calls: Sequence[Operation], found: list[dict[str, Any]]
    ) -> list[dict[str, Any] | None]:
        for call in calls[len(found) :]:
            self.recorder.end(call, "unknown", MISSING_RESULT)
        return [*found[: len(calls)], *[None] * (len(calls) - len(found))]

    async def receive(
        self, queue: str, *, max: int = 10, wait: float = 0, lease: int | None = None
    ) -> list[Lease]:
        """Leases, and none where the call failed (see ``last`` in the history)."""
        call = Receive(queue=queue, max=max, wait_seconds=wait)
        request: dict[str, Any] = {"max": max, "wait": wait}
        if lease is not None:
            request["lease"] = lease
        answer = await self._recorded(call, "POST", f"/v1/queues/{queue}/receive", request)
        if answer is not None:
            given = self.leases[queue] if lease is None else lease
            call.leases = [lease_of(item, given) for item in answer.json()["notifications"]]
            self.recorder.end(call, "ok")
        return call.leases

    async def next(self, queue: str, *, wait: float = 0) -> Lease | None:
        """The simplest client's way: the payload itself, the rest in headers."""
        call = Receive(queue=queue, max=1, wait_seconds=wait)
        answer = await self._recorded(call, "POST", f"/v1/queues/{queue}/next?wait={wait}")
        if answer is None:
            return None
        if answer.status != 204:
            call.leases = [
                Lease(
                    notification=answer.headers["restante-id"],
                    queue=answer.headers["restante-queue"],
                    seq=int(answer.headers["restante-seq"]),
                    lease=answer.headers["restante-lease"],
                    attempt=int(answer.headers["restante-attempt"]),
                    body_sha256=digest(answer.body),
                    content_type=answer.headers["content-type"],
                    lease_seconds=self.leases[queue],
                )
            ]
        self.recorder.end(call, "ok")
        return call.leases[0] if call.leases else None

    async def settle(
        self,
        lease: str,
        action: Action,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        lease_seconds: int | None = None,
        reply: bytes = b"",
    ) -> Settle:
        call = Settle(
            lease=lease,
            action=action,
            retry_after_seconds=retry_after,
            lease_seconds=lease_seconds,
        )
        request = {
            name: value
            for name, value in {
                "reason": reason,
                "retry_after": retry_after,
                "lease": lease_seconds,
            }.items()
            if value is not None
        }
        headers = {"Content-Type": "text/plain"} if reply else None
        answer = await self._recorded(
            call,
            "POST",
            f"/v1/leases/{lease}/{action}",
            request or None,
            body=reply,
            headers=headers,
        )
        if answer is not None:
            self._settled(call, answer.json())
        return call

    def _settled(self, call: Settle, result: dict[str, Any]) -> None:
        call.state, call.receipt = result.get("state"), result.get("receipt")
        self.recorder.end(call, "ok")

    async def settle_batch(self, queue: str, settles: Sequence[tuple[str, Action]]) -> list[Settle]:
        calls = [Settle(lease=lease, action=action) for lease, action in settles]
        items = [{"lease": lease, "outcome": action} for lease, action in settles]
        results = await self._batch(
            calls, f"/v1/queues/{queue}/settle", {"settle": items}, "settled"
        )
        for call, result in zip(calls, results, strict=True):
            if result is None:
                continue
            if result["ok"]:
                self._settled(call, result)
            else:
                self.recorder.refused(call, result["code"])
        return calls

    async def dead_letters(self, queue: str, action: str) -> DeadLetters:
        call = DeadLetters(queue=queue, action=action)  # type: ignore[arg-type]
        path = f"/v1/queues/{queue}/dead/{action}"
        if answer := await self._recorded(call, "POST", path, {"all": True}):
            call.done = answer.json()["done"]
            self.recorder.end(call, "ok")
        return call

    async def read_head(self) -> HeadRead:
        call = HeadRead()
        if answer := await self._recorded(call, "GET", "/v1/ledger/head"):
            _told(call, answer.body.decode())
            self.recorder.end(call, "ok")
        return call

    # -- reading at the end ----------------------------------------------------------------------

    async def read_figures(self, queue: str) -> dict[str, Any]:
        call = FiguresRead(queue=queue)
        if answer := await self._recorded(call, "GET", f"/v1/queues/{queue}"):
            call.figures = answer.json()["figures"]
            self.recorder.end(call, "ok")
        return call.figures

    async def read_receipts(self, queue: str) -> list[dict[str, Any]]:
        """The whole ledger, page by page."""
        receipts: list[dict[str, Any]] = []
        after, reading = 0, ""
        while True:
            call = ReceiptPage(queue=queue, reading=reading, after=after)
            path = f"/v1/queues/{queue}/receipts?limit={PAGE}&after={after}"
            answer = await self._recorded(call, "GET", path)
            if answer is None:
                return receipts
            page = msgspec.json.decode(answer.body, type=_Page)
            reading = reading or call.op
            call.reading, call.receipts, call.last = reading, page.receipts, page.next is None
            self.recorder.end(call, "ok")
            receipts.extend(msgspec.json.decode(receipt) for receipt in page.receipts)
            if page.next is None:
                return receipts
            after = int(page.next)

    async def read_log(self, look: Callable[[bytes], None]) -> LogRead:
        """The whole log; each line of its export is looked at. Raises NotSent or NoAnswer."""
        call = LogRead(who=self.who, role=self.role)
        self.recorder.begin(call)
        cursor: str | None = ""
        queue = ""
        while cursor is not None:
            answer = await self.call("GET", f"/v1/ledger/export?after={quote(cursor, safe='')}")
            assert answer.status == 200, answer
            for text in answer.body.splitlines():
                look(text)
                line = log_lines.decode(text)
                if line.log is not None:
                    _told(call, line.log.checkpoint)
                elif line.queue is not None:
                    queue = line.queue.name
                elif line.seal is not None:
                    call.runs.append(Run(queue, line.seal.first, line.seal.count, line.seal.place))
            cursor = answer.headers.get("restante-next")
        self.recorder.end(call, "ok")
        return call

    async def read_notification(self, notification: str) -> NotificationRead:
        call = NotificationRead(notification=notification)
        if answer := await self._recorded(call, "GET", f"/v1/notifications/{notification}"):
            record = answer.json()
            call.body_sha256 = record["body_sha256"]
            call.states = [
                (delivery["queue"], delivery["seq"], delivery["state"])
                for delivery in record["deliveries"]
            ]
            self.recorder.end(call, "ok")
        return call


class _Page(msgspec.Struct):
    receipts: list[msgspec.Raw]
    next: int | str | None = None


def _told(call: HeadRead, note: str) -> None:
    """Put down what a signed head says: the name of the log, its size and its root, line by line."""
    _, size, root, *_ = note.split("\n")
    call.size, call.root, call.note = int(size), base64.b64decode(root).hex(), note


def lease_of(item: dict[str, Any], lease_seconds: float) -> Lease:
    """A notification of an envelope, as histories write it."""
    body = item["body"].encode() if "body" in item else base64.b64decode(item["body_base64"])
    return Lease(
        notification=item["id"],
        queue=item["queue"],
        seq=item["seq"],
        lease=item["lease"],
        attempt=item["attempt"],
        body_sha256=digest(body),
        content_type=item["content_type"],
        lease_seconds=lease_seconds,
        ordering_key=item.get("ordering_key") or None,
    )
