"""Long poll: ``receive`` with its batches, and ``next`` with the bare payload."""

from __future__ import annotations

from typing import ClassVar, Final

from restante.testing.transports.driver import (
    Answer,
    Delivered,
    Driver,
    Options,
    Outcome,
    Target,
    Want,
)
from restante.testing.transports.drivers import over_http
from restante.testing.transports.stage import http_client

_OFFERS: Final = frozenset(
    {
        Want.CONNECTS,
        Want.EXTEND,
        Want.LEASE_SECONDS,
        Want.LEASE_RUNS_OUT,
        Want.PUBLISH,
        Want.RELEASE,
        Want.REASON,
        Want.SETTLE_LATER,
    }
)


class _Poll:
    """Polls while it is asked to take; holds no connection in between."""

    resume = ""

    def __init__(self, target: Target, queue: str, key: str, options: Options) -> None:
        self._http = http_client(target, key)
        self._settles = http_client(target, key)
        self._queue = queue
        self._options = options

    async def ended(self) -> None:
        raise NotImplementedError("a poll is not a connection that stays")

    async def abandon(self) -> None:
        await self._http.aclose()

    async def close(self) -> None:
        await self._http.aclose()
        await self._settles.aclose()


class ReceivePoll(_Poll):
    async def take(self, count: int) -> list[Delivered]:
        got: list[Delivered] = []
        while len(got) < count:
            asked = {"max": count - len(got), "wait": 20, "lease": self._options.lease_seconds}
            response = await self._http.post(f"/v1/queues/{self._queue}/receive", json=asked)
            assert response.status_code == 200, response.text
            got += [over_http.delivered_of(one) for one in response.json()["notifications"]]
        return got

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        return await over_http.settle_in_batch(self._settles, self._queue, delivered, answer)


class NextPoll(_Poll):
    async def take(self, count: int) -> list[Delivered]:
        got: list[Delivered] = []
        lease = self._options.lease_seconds
        query = "wait=20" if lease is None else f"wait=20&lease={lease}"
        while len(got) < count:
            response = await self._http.post(f"/v1/queues/{self._queue}/next?{query}")
            assert response.status_code in {200, 204}, response.text
            if response.status_code == 200:
                got.append(over_http.in_headers(response.headers, "restante-id", response.content))
        return got

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        return await over_http.settle(self._settles, delivered, answer)


class Receive:
    name: ClassVar[str] = "receive"
    transport: ClassVar[str] = "http"
    offers: ClassVar[frozenset[Want]] = _OFFERS

    def __init__(self, target: Target) -> None:
        self._target = target

    async def attach(self, queue: str, key: str, options: Options) -> ReceivePoll:
        return ReceivePoll(self._target, queue, key, options)

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        async with http_client(self._target, key) as http:
            return await over_http.publish(http, queue, bodies, ordering_key)


class Next(Receive):
    name: ClassVar[str] = "next"

    async def attach(  # type: ignore[override]  # another consumer for the same calls
        self, queue: str, key: str, options: Options
    ) -> NextPoll:
        return NextPoll(self._target, queue, key, options)


DRIVERS: Final[tuple[type[Driver], ...]] = (Receive, Next)
