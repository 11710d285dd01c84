"""Restante inside another Python program: the same broker in its process, the same interface in its application.

async with restante.open("sqlite:///mail") as office:
    await office.add_client("acme")
    await office.publish(queue="acme", body=b"<order/>", content_type="application/xml")
    session = await office.session("acme")
    for delivery in await session.receive(wait_seconds=20):
        await session.ack(delivery)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from restante.app import build_api, open_broker
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.engine.session import Session
from restante.engine.settling import Settle
from restante.errors import RestanteError
from restante.http.api import Api
from restante.model import (
    Actor,
    Appended,
    Delivery,
    Publication,
    Queue,
    Receipt,
    Role,
    Settings,
    Settled,
    Signature,
    Subscription,
    Verb,
)
from restante.queries import Receipts
from restante.wire.receipts import decode_entry
from restante.wrapping import live, nothing

EMBEDDED: Final = "embedded"


class EmbeddedSession:
    """One consumer of one queue. What it holds when it is dropped waits for its lease to run out."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def receive(
        self, *, max: int = 10, wait_seconds: float = 0.0, lease_seconds: float | None = None
    ) -> list[Delivery]:
        """Lease up to ``max`` (1 to 1,000) deliveries, waiting up to ``wait_seconds`` (0 to 60) for the first."""
        return await self._session.receive(
            max=max, wait_seconds=wait_seconds, lease_seconds=lease_seconds
        )

    async def ack(
        self,
        delivery: Delivery,
        reply: bytes | None = None,
        reply_content_type: str = "",
        signature: Signature | None = None,
    ) -> Settled:
        """Sign for it, with a reply of up to 64 KiB for the receipt. ``LeaseLost`` when the lease is not current.

        ``signature`` is made with the client's own key. ``SignatureRefused`` where it does not hold.
        """
        return await self._settle(
            delivery,
            verb=Verb.ACK,
            reply=reply,
            reply_content_type=reply_content_type,
            signature=signature,
        )

    async def nack(
        self, delivery: Delivery, reason: str = "", retry_after_seconds: float | None = None
    ) -> Settled:
        """Try again later: after the delay given, else after the queue's backoff."""
        return await self._settle(
            delivery, verb=Verb.NACK, reason=reason, retry_after_seconds=retry_after_seconds
        )

    async def reject(
        self, delivery: Delivery, reason: str = "", signature: Signature | None = None
    ) -> Settled:
        """Poison: to the dead letters at once. ``signature`` as for an ack."""
        return await self._settle(delivery, verb=Verb.REJECT, reason=reason, signature=signature)

    async def release(self, delivery: Delivery) -> Settled:
        """Give it back; the attempt does not count."""
        return await self._settle(delivery, verb=Verb.RELEASE)

    async def extend(self, delivery: Delivery, lease_seconds: float | None = None) -> Settled:
        """Keep it for that long from now, else for the queue's ``lease_seconds``."""
        return await self._settle(delivery, verb=Verb.EXTEND, lease_seconds=lease_seconds)

    async def _settle(self, delivery: Delivery, **what: Any) -> Settled:
        settle = Settle(lease=self._session.token(delivery), **what)
        (result,) = await (await self._session.settle([settle])).results()
        if isinstance(result, RestanteError):
            raise result
        return result


class Office:
    """A broker with an administrator's rights, for the program that holds it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._actor = Actor(EMBEDDED, Role.ADMIN, transport=EMBEDDED)
        self._administration = Administration(broker, self._actor)

    async def add_client(self, name: str) -> str:
        """Make a client and its queue; the client's key, which is not kept and cannot be had again."""
        _, key = await self._administration.add_client(name)
        return key

    async def add_key(
        self, role: Role, name: str, expires_after_seconds: float | None = None
    ) -> str:
        """Make another key, say for a publisher; shown this once."""
        _, key = await self._administration.add_key(role, name, expires_after_seconds, "")
        return key

    async def put_queue(self, name: str, *, owner: str | None = None, **settings: Any) -> Queue:
        """Create a queue or change its settings (the fields of ``Settings``); the rest keep their values."""
        try:
            current = (await self.broker.directory.queue(name)).settings
        except RestanteError:
            current = Settings()
        changed = msgspec.structs.replace(current, **settings)
        return await self._administration.put_queue(name, owner, changed)

    async def subscribe(
        self, pattern: str, queue: str, conditions: dict[str, list[str]] | None = None
    ) -> Subscription:
        """Route topics that match the pattern, and attributes the conditions, to the queue."""
        return await self._administration.subscribe(pattern, queue, conditions or {})

    async def publish(
        self,
        *,
        body: bytes,
        queue: str = "",
        topic: str = "",
        content_type: str = "application/octet-stream",
        **options: Any,
    ) -> Appended:
        """Store a notification for one queue or a topic's subscribers, durably, then return.

        ``options`` are the other fields of ``Publication``: ``attributes``, ``idempotency_key``, ``ordering_key``,
        ``collapse_key``, ``deliver_after_seconds``, ``expires_after_seconds``.
        """
        publication = Publication(
            body=body, queue=queue, topic=topic, content_type=content_type, **options
        )
        if bool(queue) == bool(topic):
            raise TypeError("name either a queue or a topic")
        if topic:
            return await self.broker.publish_to_topic(publication, self._actor)
        return await self.broker.publish(publication, self._actor)

    async def session(self, queue: str) -> EmbeddedSession:
        """Attach a consumer to a queue."""
        return EmbeddedSession(await self.broker.session(queue, self._actor))

    async def receipts(self, queue: str) -> AsyncIterator[Receipt]:
        """The queue's ledger, oldest first."""
        after: int | None = 0
        while after is not None:
            page = await self.broker.store.browse(Receipts(queue, after, 500))
            for stored in page.receipts:
                yield decode_entry(stored.entry)
            after = page.next

    def asgi(self, admin_key: str | None = None) -> Api:
        """The HTTP interface over this very broker, to be mounted in a Starlette or FastAPI application."""
        return build_api(self.broker, admin_key)


@contextlib.asynccontextmanager
async def open(url: str, **settings: Any) -> AsyncIterator[Office]:
    """A broker in this process, over ``sqlite:///FOLDER`` (one process at a time) or ``memory://``.

    ``settings`` are ``poll_interval_seconds``, ``retention_interval_seconds``, ``request_retention_seconds`` (how long
    idempotency keys are remembered) and ``webhook_allow`` (networks that webhooks may go to although they are not the
    Internet's). Raises ``StartupError``.
    """
    async with open_broker(url, **settings) as broker:
        yield Office(broker)


class Mounted:
    """An ASGI application that opens its store with its lifespan.

    Starlette and FastAPI do not pass the lifespan on to what is mounted: there, enter it in your own lifespan
    (``async with application: yield``).
    """

    def __init__(self, url: str, admin_key: str | None = None, **settings: Any) -> None:
        self._url = url
        self._admin_key = admin_key
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()
        self._office: Office | None = None
        self._api: Api | None = None

    @property
    def office(self) -> Office:
        """The broker behind the interface, while it is open."""
        if self._office is None:
            raise RuntimeError("the application is not open: enter it in your lifespan")
        return self._office

    async def __aenter__(self) -> Self:
        self._office = await self._stack.enter_async_context(open(self._url, **self._settings))
        self._api = self._office.asgi(self._admin_key)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._office = self._api = None
        await self._stack.aclose()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await live(self, nothing, scope, receive, send)
            return
        if self._api is None:
            raise RuntimeError("the application is not open: enter it in your lifespan")
        await self._api(scope, receive, send)


def asgi(url: str, *, admin_key: str | None = None, **settings: Any) -> Mounted:
    """The HTTP interface over a store, as an application of its own or to be mounted in another."""
    return Mounted(url, admin_key, **settings)
