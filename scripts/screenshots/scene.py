"""A day in a post office, made up: what the pictures of the pages show.

It is played in some seconds, with the clock in hand, by the engine itself on a store of its own: what the pages tell of
it was counted and written down as always. All names are made up.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from restante.cli.demo.documents import documents
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.model import Actor, Delivery, Publication, Role, Settings, Verb
from restante.testing.clock import FakeClock
from restante.urls import folder_url, open_store

HOURS: Final = 24
PUBLISHER: Final = Actor("orders", Role.PUBLISHER, "k-orders", "http", "192.0.2.10:41200")
OWNER: Final = Actor("ada", Role.ADMIN, "k-ada", "http", "192.0.2.7:50312")


class Part(NamedTuple):
    """One client. ``published`` is by the minute at noon, ``fails`` a share; at the end it is silent for some hours."""

    name: str
    transport: str
    agent: str
    published: float
    settings: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it
    fails: float = 0.0
    reasons: Sequence[str] = ()
    silent_hours: float = 0.0
    takes: int = 1_000
    """How many a minute it manages at most."""


PARTS: Final = (
    Part("buyer-17", "websocket", "ledgerbridge/4.2", 1.5),
    Part("depot-4", "http", "curl/8.5.0", 0.8, {"depth_limit": 500}),
    Part(
        "mill-9",
        "http",
        "Java-http-client/21",
        2.2,
        {"silence_limit_seconds": 3_600, "max_attempts": 3},
        fails=0.04,
        reasons=("HTTP 500 from the stock system",),
        silent_hours=3.1,
    ),
    Part(
        "forge-3",
        "sse",
        "node/22.3",
        1.2,
        {"max_attempts": 2, "backoff_base_seconds": 30},
        fails=0.35,
        reasons=("article A-0000 is not known here", "the document breaks off"),
    ),
    Part("harbour-2", "grpc", "grpc-go/1.66", 1.0),
    Part("yard-12", "http", "python-httpx/0.27", 0.6, {"oldest_age_limit_seconds": 7_200}, takes=0),
    Part("bakery-8", "http", "okhttp/4.12", 0.4),
    Part("tannery-5", "websocket", "websockets/13", 0.7, fails=0.02, reasons=("try later",)),
    Part("quarry-1", "sse", "Go-http-client/2.0", 0.3),
    Part("foundry-6", "http", "Java-http-client/17", 0.9),
    Part("printer-3", "grpc", "grpc-java/1.65", 0.5),
    Part("vineyard-7", "http", "curl/7.88.1", 0.2),
)


async def play(folder: Path, now_ms: int) -> dict[str, str]:
    """Play the day up to ``now_ms`` (wall clock) into a new store in ``folder``; the clients' keys, by name."""
    clock = FakeClock(now_ms - HOURS * 3_600_000)
    chance = random.Random(5)  # noqa: S311  # a play, no secrets
    async with open_store(folder_url(folder), clock) as store, Broker(store, clock) as broker:
        administration = Administration(broker, OWNER)
        keys = {}
        for part in PARTS:
            _, keys[part.name] = await administration.add_client(part.name)
            await administration.put_queue(part.name, None, Settings(**part.settings))
        letters = _letters()
        for minute in range(HOURS * 60):
            await _publish(broker, chance, letters, _bustle(minute / 60))
            here = [part for part in PARTS if HOURS - minute / 60 > part.silent_hours]
            taken = [(part, await _collect(broker, part)) for part in here]
            clock.advance(2 + 20 * chance.random() ** 3)
            for part, deliveries in taken:
                await _sign(broker, chance, part, deliveries)
            clock.advance((minute + 1) * 60 - clock.monotonic())
            await _let_go_on()
    return keys


def _bustle(hour: float) -> float:
    """How much of a noon's business there is at that hour of the play: least in the middle of it, the night."""
    return 0.3 + 0.7 * math.cos(math.pi * hour / HOURS) ** 2


def _letters() -> dict[str, list[Publication]]:
    found: dict[str, list[Publication]] = {part.name: [] for part in PARTS}
    for document in documents(12 * len(PARTS), tuple(found), "forge-3"):
        letter = Publication(
            queue=document.queue,
            body=document.content,
            content_type=document.content_type,
            attributes={"ce-type": f"order.{document.kind}", "ce-source": "/orders"},
        )
        found[document.queue].append(letter)
    return found


async def _publish(
    broker: Broker, chance: random.Random, letters: dict[str, list[Publication]], bustle: float
) -> None:
    batch = []
    for part in PARTS:
        wanted = part.published * bustle
        number = int(wanted) + (chance.random() < wanted % 1)
        batch += [chance.choice(letters[part.name]) for _ in range(number)]
    if batch:
        await broker.publish_batch(batch, PUBLISHER)


async def _collect(broker: Broker, part: Part) -> list[Delivery]:
    if not part.takes:
        return []
    session = await broker.session(part.name, _actor(part))
    return await session.receive(max=part.takes)


async def _sign(
    broker: Broker, chance: random.Random, part: Part, deliveries: list[Delivery]
) -> None:
    session = await broker.session(part.name, _actor(part))
    settles = []
    for one in deliveries:
        lease = session.token(one)
        if chance.random() < part.fails:
            reason = chance.choice(part.reasons)
            settles.append(Settle(lease=lease, verb=Verb.NACK, reason=reason))
        else:
            settles.append(Settle(lease=lease, verb=Verb.ACK, reply=b"<accepted/>"))
    if settles:
        await (await session.settle(settles)).results()


def _actor(part: Part) -> Actor:
    address = f"198.51.100.{PARTS.index(part) + 4}:50100"
    return Actor(
        part.name, Role.CLIENT, f"k-{part.name}", part.transport, address, agent=part.agent
    )


async def _let_go_on() -> None:
    """Let the engine's own work, for which time has come, begin; what it asks of the store is done in order."""
    for _ in range(20):
        await asyncio.sleep(0)
