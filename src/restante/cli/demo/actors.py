"""Who takes part: a publisher, and three clients of different temper."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from typing import Final

import msgspec

from restante.cli.demo.documents import Document, Flawed, process
from restante.client import Client, Notification, Settle
from restante.errors import LeaseLost
from restante.model import Verb

STEADY: Final = "buyer-17"
SHAKY: Final = "depot-4"
PICKY: Final = "mill-9"
TEMPERS: Final = {STEADY: "steady", SHAKY: "crashes", PICKY: "meets poison"}
QUEUES: Final = tuple(TEMPERS)
SETTINGS: Final[dict[str, dict[str, object]]] = {
    # Short, so that what waits for others in life is over in seconds here.
    SHAKY: {"lease_seconds": 2},
    PICKY: {"max_attempts": 3, "backoff_base_seconds": 0.2, "backoff_cap_seconds": 1},
}
_PUBLISHERS: Final = 8
_XML: Final = "application/xml"


class Tally(msgspec.Struct):
    """What one client has seen and done."""

    published: dict[str, str] = {}
    """SHA-256 of what was confirmed to the publisher, by notification id."""
    signed: set[str] = set()
    retried: int = 0
    """How often one came that had been handed out before."""
    crashes: int = 0
    altered: list[str] = []
    """Ids whose bytes were not those published. There must be none."""

    def saw(self, notification: Notification) -> None:
        if notification.attempt > 1:
            self.retried += 1
        digest = hashlib.sha256(notification.content).hexdigest()
        # A client can be quicker than the publisher's confirm: then the document itself says what it should be.
        if notification.attributes.get("sha256") != digest:
            self.altered.append(notification.id)


async def publish(
    client: Client, made: Iterator[Document], rate: float, tallies: dict[str, Tally]
) -> None:
    """Publish documents at this rate (a second), each confirmed before its publisher takes the next."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def publisher() -> None:
        for document in made:
            due = started + document.number / rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            digest = document.sha256
            published = await client.publish(
                document.queue,
                document.content,
                content_type=document.content_type,
                attributes={
                    "ce-type": f"demo.{document.kind}",
                    "ce-source": "/demo",
                    "sha256": digest,
                },
                idempotency_key=f"demo-{document.number}",
            )
            tallies[document.queue].published[published.id] = digest

    async with asyncio.TaskGroup() as group:
        for _ in range(_PUBLISHERS):
            group.create_task(publisher())


async def steady(url: str, key: str, tally: Tally) -> None:
    """Collects by tens, and signs for the last ten, with replies, on the way of the next call."""
    async with Client(url, key) as client:
        signing: list[Settle] = []
        taken: list[Notification] = []
        while True:
            received = await client.receive(
                STEADY, max=10, wait=1 if signing else 20, settle=signing
            )
            for notification, settled in zip(taken, received.settled, strict=True):
                if settled.ok:
                    tally.signed.add(notification.id)
            taken = received.notifications
            signing = []
            for notification in taken:
                tally.saw(notification)
                reply = process(notification.content, notification.content_type)
                signing.append(
                    Settle(lease=notification.lease, reply=reply.encode(), reply_content_type=_XML)
                )


async def shaky(url: str, key: str, tally: Tally) -> None:
    """Now and then it goes down with work in hand: nobody signs, the leases run out, and all of it comes again."""
    chance = random.Random(4)  # noqa: S311  # when to crash is no secret
    while True:
        async with Client(url, key) as client:
            while True:
                received = await client.receive(SHAKY, max=5)
                for notification in received.notifications:
                    tally.saw(notification)
                if received.notifications and chance.random() < 0.1:
                    break
                for notification in received.notifications:
                    try:
                        await client.ack(notification.lease)
                    except LeaseLost:
                        continue
                    tally.signed.add(notification.id)
        tally.crashes += 1


async def picky(url: str, key: str, tally: Tally) -> None:
    """Refuses what it can never process, and puts off what it cannot process now."""
    async with Client(url, key) as client:
        while True:
            received = await client.receive(PICKY, max=10)
            settles = []
            for notification in received.notifications:
                tally.saw(notification)
                settles.append(_judge(notification))
            if not settles:
                continue
            done = await client.settle(PICKY, settles)
            for notification, settle, settled in zip(
                received.notifications, settles, done, strict=True
            ):
                if settled.ok and settle.verb is Verb.ACK:
                    tally.signed.add(notification.id)


def _judge(notification: Notification) -> Settle:
    lease = notification.lease
    try:
        reply = process(notification.content, notification.content_type, notification.attempt)
    except Flawed as flaw:
        verb = Verb.NACK if flaw.passing else Verb.REJECT
        return Settle(lease=lease, verb=verb, reason=str(flaw))
    return Settle(lease=lease, reply=reply.encode(), reply_content_type=_XML)
