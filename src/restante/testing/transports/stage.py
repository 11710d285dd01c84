"""Where a scenario plays: a client with its queue, a publisher and an administrator, at a service that runs."""

from __future__ import annotations

import asyncio
import itertools
import os
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import httpx

from restante.model import Verb
from restante.testing.transports.driver import (
    Answer,
    Consumer,
    Delivered,
    Driver,
    Options,
    Outcome,
    Target,
    Want,
)

SECONDS: Final = 20.0
"""How long anything may take that has to come."""
_numbers = itertools.count(1)
Play = Callable[["Stage"], Awaitable[None]]


def needs(*wants: Want) -> Callable[[Play], Play]:
    """Marks a scenario that not every transport can play."""

    def mark(play: Play) -> Play:
        play.needs = frozenset(wants)  # type: ignore[attr-defined]  # read by needs_of alone
        return play

    return mark


def needs_of(play: Play) -> frozenset[Want]:
    """What a scenario was marked with."""
    found: frozenset[Want] = getattr(play, "needs", frozenset())
    return found


class Scenario(NamedTuple):
    """Something that holds over every transport which offers what it needs."""

    name: str
    play: Play
    needs: frozenset[Want]

    def __str__(self) -> str:
        return self.name

    async def run(
        self, target: Target, driver: type[Driver], other: type[Driver] | None = None
    ) -> None:
        """Play it with a client of one transport; ``other`` is a second one, where two meet."""
        async with asyncio.timeout(3 * SECONDS), Stage(target, driver, other) as stage:
            await self.play(stage)


def http_client(target: Target, key: str) -> httpx.AsyncClient:
    """HTTP calls with a key."""
    verify: ssl.SSLContext | bool = True
    if target.ca_file:
        verify = ssl.create_default_context(cafile=target.ca_file)
    headers = {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=target.url, headers=headers, timeout=90, verify=verify)


class Stage:
    """One client of its own name and queue. What was attached is closed at the end."""

    def __init__(
        self, target: Target, driver: type[Driver], other: type[Driver] | None = None
    ) -> None:
        self.target = target
        self.driver = driver(target)
        self.other = (other or driver)(target)
        # Unique among runs too: a service may be used for many.
        self.queue = f"stage-{os.getpid()}-{next(_numbers)}"
        self._consumers: list[Consumer] = []

    async def __aenter__(self) -> Self:
        self.admin = http_client(self.target, self.target.admin_key)
        made = await self._call("POST", "/v1/clients", {"name": self.queue})
        self.key: str = made["key"]
        self.key_id: str = made["key_id"]
        publisher = {"role": "publisher", "name": f"{self.queue}-shop"}
        self.publisher_key: str = (await self._call("POST", "/v1/keys", publisher))["key"]
        await self.settings(lease_seconds=30, backoff_base_seconds=0)
        self._publisher = http_client(self.target, self.publisher_key)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for consumer in self._consumers:
            await consumer.close()
        await self._publisher.aclose()
        await self.admin.aclose()

    async def _call(self, method: str, path: str, json: object = None) -> Any:
        answer = await self.admin.request(method, path, json=json)
        assert answer.is_success, (method, path, answer.text)
        return answer.json() if answer.content else None

    # -- the administrator's and the publisher's part -------------------------------------------

    async def settings(self, **settings: object) -> None:
        await self._call("PUT", f"/v1/queues/{self.queue}", settings)

    async def another_client(self) -> tuple[str, str]:
        """A second client: its queue and its key."""
        name = f"{self.queue}-other"
        return name, (await self._call("POST", "/v1/clients", {"name": name}))["key"]

    async def revoke_key(self) -> None:
        await self._call("DELETE", f"/v1/keys/{self.key_id}")

    async def publish(
        self, *bodies: bytes, content_type: str = "application/xml", queue: str = "", **headers: str
    ) -> list[str]:
        """Publish over HTTP, one after the other; the ids. Headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        ids: list[str] = []
        for body in bodies:
            answer = await self._publisher.post(
                f"/v1/queues/{queue or self.queue}/notifications",
                content=body,
                headers={"content-type": content_type, **named},
            )
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
        return ids

    async def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self._call("GET", f"/v1/queues/{self.queue}"))["figures"]
        return found

    async def receipts(self, outcome: str = "") -> list[dict[str, Any]]:
        query = f"?outcome={outcome}" if outcome else ""
        page = await self._call("GET", f"/v1/queues/{self.queue}/receipts{query}")
        found: list[dict[str, Any]] = page["receipts"]
        return found

    async def dead(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._call("GET", f"/v1/queues/{self.queue}/dead"))[
            "dead"
        ]
        return found

    # -- the client's part ----------------------------------------------------------------------

    async def attach(self, *, other: bool = False, **options: Any) -> Consumer:
        """Connect a consumer to the stage's queue, over the transport that is played or the other."""
        driver = self.other if other else self.driver
        consumer = await driver.attach(self.queue, self.key, Options(**options))
        self._consumers.append(consumer)
        return consumer


async def take(consumer: Consumer, count: int = 1) -> list[Delivered]:
    """The next so many; fails when they do not come in time."""
    async with asyncio.timeout(SECONDS):
        return await consumer.take(count)


async def one(consumer: Consumer) -> Delivered:
    (delivered,) = await take(consumer)
    return delivered


async def settle(consumer: Consumer, delivered: Delivered, verb: Verb, **said: Any) -> Outcome:
    """Settle, and be told what came of it."""
    async with asyncio.timeout(SECONDS):
        return await consumer.settle(delivered, Answer(verb=verb, **said))


async def settled(consumer: Consumer, delivered: Delivered, verb: Verb, **said: Any) -> Outcome:
    """Settle, which has to go well."""
    outcome = await settle(consumer, delivered, verb, **said)
    assert outcome.ok, outcome
    return outcome


async def ack(consumer: Consumer, delivered: Delivered, **said: Any) -> Outcome:
    return await settled(consumer, delivered, Verb.ACK, **said)


async def nack(consumer: Consumer, delivered: Delivered, **said: Any) -> Outcome:
    return await settled(consumer, delivered, Verb.NACK, **said)
