"""The client: publishing, collecting and signing. What operators do is in ``operations``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Self, TypedDict, Unpack

import httpx
import msgspec

from restante.client.answers import Awaited, AwaitedDelivery, Published, PublishResult, Received
from restante.client.collecting import Lease
from restante.client.http import (
    RETRY_DELAYS_SECONDS,
    UnexpectedAnswer,
    Wire,
    error_of,
)
from restante.client.operations import Operations, segment
from restante.client.signing import Signer
from restante.errors import RestanteError, TooManyWaiters
from restante.model import WAIT_SECONDS_MAXIMUM, Publication, Signature, Verb, check_bounds
from restante.outcomes import Requirement, Result
from restante.wire.client_signatures import HEADER, to_header, to_json
from restante.wire.messages import Published as PublishedMessage
from restante.wire.messages import PublishedBatch, SettledBatch, SettledItem, text_of

_OCTETS: Final = "application/octet-stream"


class PublishOptions(TypedDict, total=False):
    """What may be said of a notification beside its body; all of it optional."""

    content_type: str
    attributes: dict[str, str]
    idempotency_key: str
    ordering_key: str
    collapse_key: str
    deliver_after_seconds: float
    expires_after_seconds: float | None


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """One lease to settle in a batch. ``retry_after_seconds`` is for a nack, ``lease_seconds`` for an extension."""

    lease: str
    verb: Verb = Verb.ACK
    reason: str = ""
    retry_after_seconds: float | None = None
    lease_seconds: float | None = None
    reply: bytes | None = None
    reply_content_type: str = _OCTETS
    signature: Signature | None = None

    def asked(self) -> dict[str, object]:
        """As it is sent."""
        asked: dict[str, object] = {"lease": self.lease, "outcome": self.verb.value}
        if self.reason:
            asked["reason"] = self.reason
        if self.retry_after_seconds is not None:
            asked["retry_after"] = self.retry_after_seconds
        if self.lease_seconds is not None:
            asked["lease_seconds"] = self.lease_seconds
        if self.reply is not None:
            asked |= _text_or_base64("reply", self.reply)
            asked["reply_content_type"] = self.reply_content_type
        if self.signature is not None:
            asked["signature"] = to_json(self.signature)
        return asked


class Client(Operations):
    """``async with Client(url, key) as client``. One serves any number of tasks; ``url`` has no path.

    ``timeout_seconds`` is for each step of a request; a long poll gets its ``wait`` on top. ``retry_delays_seconds``
    are the pauses before connecting again (see the package for what is repeated). With a ``signer`` all that
    ``collect`` brings is settled with a signature of the client's own.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_seconds: float = 30.0,
        retry_delays_seconds: Sequence[float] = RETRY_DELAYS_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        signer: Signer | None = None,
    ) -> None:
        self._signer = signer
        wire = Wire(
            url,
            key,
            timeout_seconds=timeout_seconds,
            retry_delays_seconds=retry_delays_seconds,
            transport=transport,
        )
        super().__init__(wire)

    async def __aenter__(self) -> Self:
        await self._wire.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._wire.__aexit__(kind, error, trace)

    async def close(self) -> None:
        """Close all connections, where ``async with`` does not fit. Leases held run on."""
        await self._wire.close()

    # -- publishing -----------------------------------------------------------------------------

    async def publish(
        self, queue: str, body: bytes, **options: Unpack[PublishOptions]
    ) -> Published:
        """Publish to one queue; returns once it is durable.

        With an idempotency key it may be repeated safely, and is when an answer gets lost; without one a lost answer
        is ``OutcomeUnknown``.
        """
        return await self.publish_one(Publication(queue=queue, body=body, **options))

    async def publish_topic(
        self, topic: str, body: bytes, **options: Unpack[PublishOptions]
    ) -> Published:
        """As ``publish``, to every queue subscribed to the topic; ``deliveries`` is empty where none is."""
        return await self.publish_one(Publication(topic=topic, body=body, **options))

    async def publish_one(self, publication: Publication) -> Published:
        """Publish to the publication's queue or topic, the body sent as it is."""
        headers = _headers(publication)
        if headers is None:
            (result,) = await self.publish_batch([publication])
            if isinstance(result, RestanteError):
                raise result
            return result
        response = await self._wire.send(
            "POST",
            _publish_path(publication),
            content=publication.body,
            headers=headers,
            repeatable=bool(publication.idempotency_key),
        )
        message = self._wire.read(PublishedMessage, response)
        replayed = response.headers.get("Idempotency-Replayed") == "true"
        return _published(message, replayed)

    async def publish_and_wait(
        self,
        publication: Publication,
        *,
        wait_seconds: int = 30,
        require: int | str = "all",
    ) -> Awaited:
        """Publish, and wait up to ``wait_seconds`` (0 to 60, whole) for what the queues make of it: acks, with replies.

        As many have to sign as ``require`` says: ``all``, ``any`` or a number. It ends as soon as they have, or
        cannot any more, since one has rejected it or let it expire. What is still pending when the time is up is
        waited for by ``notification``: also where there was no place to wait, or nobody could tell how it stands, once
        it was published. Repeated as ``publish`` is. ``TooManyWaiters``, ``OutOfBounds``, ``Malformed`` and
        ``InvalidHeader`` (as a number above 1 where a queue is named, which signs once) say that nothing was published.
        """
        # Checked here: what a server cannot read of a preference it passes over, and publishes.
        check_bounds("wait_seconds", wait_seconds, 0, WAIT_SECONDS_MAXIMUM)
        required = Requirement.parse(str(require))
        if not publication.topic:
            required.check_one_queue()
        prefer = f"wait={wait_seconds:d}"
        headers = _headers(publication)
        if headers is None:
            return await self._outcome_of(
                await self.publish_one(publication), wait_seconds, require
            )
        headers |= {"Prefer": prefer, "Restante-Require": str(require)}
        response = await self._wire.send(
            "POST",
            _publish_path(publication),
            content=publication.body,
            headers=headers,
            repeatable=bool(publication.idempotency_key),
            wait_seconds=wait_seconds,
        )
        return self._wire.read(Awaited, response)

    async def _outcome_of(
        self, published: Published, wait_seconds: int, require: int | str
    ) -> Awaited:
        """What it has come to. Where that cannot be found out, it is published all the same, and pending."""
        for seconds in (wait_seconds, 0):
            try:
                found = await self.notification(published.id, wait_seconds=seconds, require=require)
            except TooManyWaiters:
                continue  # who does not wait needs no place
            except RestanteError:
                break
            return Awaited(id=found.id, result=found.result, deliveries=[*found.deliveries])
        places = [AwaitedDelivery(queue=one.queue, seq=one.seq) for one in published.deliveries]
        return Awaited(id=published.id, result=Result.PENDING, deliveries=places)

    async def publish_batch(
        self, publications: Sequence[Publication], *, idempotency_key: str | None = None
    ) -> list[PublishResult]:
        """Publish 1 to 1,000 at once, each standing or failing by itself: a result or an error for each, in order.

        Repeated after a lost answer only where every one has an idempotency key, or all have this one. Call it again
        with it where some are a ``StoreError``: the others are not published anew.
        """
        batch = await self._wire.call(
            PublishedBatch,
            "POST",
            "/v1/notifications",
            ask={"notifications": [_item(publication) for publication in publications]},
            repeatable=all(publication.idempotency_key for publication in publications),
            idempotency_key=idempotency_key,
        )
        results: list[PublishResult] = []
        for item in batch.results:
            if item.ok and item.id is not None:
                message = PublishedMessage(id=item.id, deliveries=item.deliveries or [])
                results.append(_published(message, item.replayed))
            else:
                results.append(_error(item.code, item.detail, item.status))
        return results

    # -- collecting and signing -----------------------------------------------------------------

    async def receive(
        self,
        queue: str,
        *,
        max: int = 10,
        wait: float = 20.0,
        lease: float | None = None,
        settle: Sequence[Settle] = (),
    ) -> Received:
        """Lease up to ``max`` (1 to 1,000) notifications, waiting up to ``wait`` seconds (0 to 60) for the first.

        ``lease`` is for how many seconds (1 to 43,200; None: as the queue has it). ``settle`` ends earlier leases of
        the same queue on the way, in the same transaction. Never repeated: a lost answer may have brought leases,
        which run out by themselves.
        """
        ask: dict[str, object] = {"max": max, "wait": wait}
        if lease is not None:
            ask["lease"] = lease
        if settle:
            ask["settle"] = [one.asked() for one in settle]
        return await self._wire.call(
            Received,
            "POST",
            f"/v1/queues/{segment(queue)}/receive",
            ask=ask,
            repeatable=False,
            wait_seconds=wait,
        )

    async def collect(
        self, queue: str, *, wait: float = 20.0, lease: float | None = None
    ) -> AsyncIterator[Lease]:
        """Notifications for ever, one at a time; see ``Lease`` for how each is settled."""
        while True:
            received = await self.receive(queue, max=1, wait=wait, lease=lease)
            for notification in received.notifications:
                yield Lease(self, notification, self._signer)

    async def ack(
        self,
        lease: str,
        reply: bytes | None = None,
        *,
        reply_content_type: str = _OCTETS,
        signature: Signature | None = None,
    ) -> SettledItem:
        """Sign for it. ``reply`` (at most 64 KiB) is kept in the receipt. ``LeaseLost`` where it came too late.

        ``signature`` is one that a ``Signer`` made, with the reply; here as with nack and reject. ``SignatureRefused``.
        """
        headers = {"Content-Type": reply_content_type} if reply else {}
        headers |= _signed(signature)
        response = await self._wire.send(
            "POST", _lease_path(lease, Verb.ACK), content=reply, headers=headers, repeatable=True
        )
        return self._wire.read(SettledItem, response)

    async def nack(
        self,
        lease: str,
        *,
        reason: str = "",
        retry_after_seconds: float | None = None,
        signature: Signature | None = None,
    ) -> SettledItem:
        """Have it again later: after the queue's backoff, or ``retry_after_seconds``."""
        ask: dict[str, object] = {"reason": reason} if reason else {}
        if retry_after_seconds is not None:
            ask["retry_after"] = retry_after_seconds
        return await self._settle_one(lease, Verb.NACK, ask, signature)

    async def reject(
        self, lease: str, *, reason: str = "", signature: Signature | None = None
    ) -> SettledItem:
        """Send it to the dead letters at once."""
        ask: dict[str, object] = {"reason": reason} if reason else {}
        return await self._settle_one(lease, Verb.REJECT, ask, signature)

    async def release(self, lease: str) -> SettledItem:
        """Give it back: ready again at once, and the attempt does not count."""
        return await self._settle_one(lease, Verb.RELEASE, {})

    async def extend(self, lease: str, lease_seconds: float | None = None) -> SettledItem:
        """Let the lease run for ``lease_seconds`` from now (None: as the queue has it)."""
        ask: dict[str, object] = {} if lease_seconds is None else {"lease": lease_seconds}
        return await self._settle_one(lease, Verb.EXTEND, ask)

    async def settle(self, queue: str, settles: Sequence[Settle]) -> list[SettledItem]:
        """Settle 1 to 1,000 leases of one queue; an answer for each, in order: see ``ok`` and ``code``."""
        batch = await self._wire.call(
            SettledBatch,
            "POST",
            f"/v1/queues/{segment(queue)}/settle",
            ask={"settle": [one.asked() for one in settles]},
            repeatable=True,
        )
        return batch.settled

    async def _settle_one(
        self,
        lease: str,
        verb: Verb,
        ask: dict[str, object],
        signature: Signature | None = None,
    ) -> SettledItem:
        response = await self._wire.send(
            "POST",
            _lease_path(lease, verb),
            content=msgspec.json.encode(ask),
            headers={"Content-Type": "application/json"} | _signed(signature),
            repeatable=True,
        )
        return self._wire.read(SettledItem, response)


def _signed(signature: Signature | None) -> dict[str, str]:
    return {} if signature is None else {HEADER: to_header(signature)}


def _publish_path(publication: Publication) -> str:
    if publication.topic:
        return f"/v1/topics/{segment(publication.topic)}/notifications"
    return f"/v1/queues/{segment(publication.queue)}/notifications"


def _lease_path(lease: str, verb: Verb) -> str:
    return f"/v1/leases/{segment(lease)}/{verb.value}"


def _headers(publication: Publication) -> dict[str, str] | None:
    """What goes into headers; None where something does not fit into one, and needs a JSON envelope."""
    headers = {"Content-Type": publication.content_type}
    if publication.idempotency_key:
        headers["Idempotency-Key"] = publication.idempotency_key
    if publication.ordering_key:
        headers["Restante-Ordering-Key"] = publication.ordering_key
    if publication.collapse_key:
        headers["Restante-Collapse-Key"] = publication.collapse_key
    if publication.deliver_after_seconds:
        headers["Restante-Deliver-After"] = str(publication.deliver_after_seconds)
    if publication.expires_after_seconds is not None:
        headers["Restante-Expires-After"] = str(publication.expires_after_seconds)
    for name, value in publication.attributes.items():
        own = name if name.startswith("ce-") else f"Restante-Attribute-{name}"
        headers[own] = value
    # A dot is legal in a header's name, and lost in many a proxy.
    plain = all(
        name.isascii() and "." not in name and _survives(value) for name, value in headers.items()
    )
    return headers if plain else None


def _survives(value: str) -> bool:
    # Blanks at either end are cut off on the way, and quotes read as RFC 8941's.
    return value.isascii() and value.isprintable() and value == value.strip(' "')


def _item(publication: Publication) -> dict[str, object]:
    item = {
        name: value
        for name, value in msgspec.structs.asdict(publication).items()
        if value and name != "body"
    }
    return item | _text_or_base64("body", publication.body)


def _text_or_base64(name: str, data: bytes) -> dict[str, object]:
    text, encoded = text_of(data, for_xml=False)
    return {f"{name}_base64": encoded} if text is None else {name: text}


def _published(message: PublishedMessage, replayed: bool = False) -> Published:
    return Published(message.id, message.deliveries, replayed)


def _error(code: str | None, detail: str | None, status: int | None) -> RestanteError:
    error = error_of(code or "", detail or "")
    return error or UnexpectedAnswer(f"{detail} ({code}, {status})", status or 0)
