"""What ``RespondAsync`` answers with no 202 before: what is ready in time, and what cannot go on in the background."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.unit.client.house import ASYNC, Exchange, Slow, begun, served

from restante.client import Client
from restante.client.respond_async import RespondAsync
from restante.operation import OperationState
from restante.wire.operation_messages import OperationOut


@pytest.mark.parametrize(
    "prefer",
    [
        *("respond-async, wait=30", 'WAIT="30", Respond-Async; x=1'),
        pytest.param("respond-async, wait=" + "9" * 400, id="longer than any"),
    ],
)
async def test_one_that_is_ready_in_time_is_answered_as_ever(
    slow: Slow, restante_client: Client, prefer: str
) -> None:
    async with served(slow, restante_client) as caller:
        headers = {"prefer": prefer}
        asking = asyncio.create_task(caller.post("/reports/sales", content=b"May", headers=headers))
        await slow.started.wait()
        slow.go.set()
        answer = await asking
        assert (answer.status_code, answer.content) == (201, b"report on May")
        assert (await restante_client.open_operations(runner="shop-1")).operations == []


@pytest.mark.parametrize("wait", [30, 0])
async def test_a_large_answer_is_passed_on_as_it_comes(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch, wait: int
) -> None:
    """Where the caller has no 202 yet: within its wait, and while the operation is being made."""
    make = restante_client.create_operation
    made = []

    async def make_late(**asked: Any) -> Any:
        await slow.has_begun.wait()
        made.append(await make(**asked))
        return made[-1]

    monkeypatch.setattr(restante_client, "create_operation", make_late)
    slow.go.set()
    exchange = Exchange(f"respond-async, wait={wait}", leaves_after=200_000)
    async with RespondAsync(
        slow.application, restante_client, runner="shop-1", paths=("/reports",)
    ) as application:
        async with asyncio.timeout(20):
            await application(exchange.scope, exchange.receive, exchange.send)
        assert slow.ended.is_set()
        assert exchange.sent[0]["status"] == 200
        pieces = len(exchange.body) // 10_000
        assert 20 <= pieces <= 30
        expected = [number.to_bytes(4) * 2_500 for number in range(1, pieces + 1)]
        assert exchange.body == b"".join(expected)
        assert len(made) == (wait == 0)
        for one in made:
            found = await restante_client.operation(one.id, wait=20)
            assert found.state is OperationState.CANCELLED


class Office:
    """Makes one operation when the test says so."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.may_make = asyncio.Event(), asyncio.Event()
        self.made: asyncio.Future[OperationOut] = asyncio.get_running_loop().create_future()
        self._make = client.create_operation
        self._look = client.operation
        monkeypatch.setattr(client, "create_operation", self.make)

    async def make(self, **wanted: Any) -> OperationOut:
        self.asked.set()
        await self.may_make.wait()
        self.made.set_result(await self._make(**wanted))
        return self.made.result()

    async def given_up(self) -> bool:
        found = await self._look((await self.made).id, wait=20)
        return found.state is OperationState.CANCELLED


@pytest.mark.parametrize("silent", [False, True])
async def test_what_is_ready_before_its_operation_is_made_is_given(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Also where Restante is silent. Nor is the operation left open that is made after all."""
    office = Office(restante_client, monkeypatch)
    async with served(slow, restante_client) as caller:
        asking = asyncio.create_task(caller.post("/reports/sales", content=b"May", headers=ASYNC))
        await office.asked.wait()
        slow.go.set()
        await slow.ended.wait()
        if not silent:
            office.may_make.set()
        answer = await asking
        assert (answer.status_code, answer.content) == (201, b"report on May")
        office.may_make.set()
        assert await office.given_up()


@pytest.mark.parametrize("made", [False, True])
async def test_no_operation_is_left_open_whose_caller_the_server_gives_up(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """While it is being made, and when it has just been made."""
    office = Office(restante_client, monkeypatch)
    async with served(slow, restante_client) as caller:
        asking = asyncio.create_task(caller.post("/reports/sales", content=b"May", headers=ASYNC))
        await office.asked.wait()
        if made:
            office.may_make.set()
            await office.made
        asking.cancel()
        await slow.ended.wait()
        office.may_make.set()
        assert await office.given_up()
    await asyncio.gather(asking, return_exceptions=True)


async def test_an_answer_that_says_it_failed_is_given_when_it_is_whole(
    slow: Slow, restante_client: Client
) -> None:
    """What its endpoint does after it is not waited for."""
    slow.go.set()
    exchange = Exchange("respond-async, wait=30", leaves_after=len(b"no ink"))
    exchange.scope["path"] = "/reports/refused"
    async with RespondAsync(
        slow.application, restante_client, runner="shop-1", paths=("/reports",)
    ) as application:
        asking = asyncio.create_task(application(exchange.scope, exchange.receive, exchange.send))
        await asyncio.wait_for(exchange.left.wait(), 20)
        assert (exchange.sent[0]["status"], exchange.body) == (503, b"no ink")
        slow.may_mail.set()
        await asking


async def test_a_caller_who_left_before_stops_its_endpoint(
    slow: Slow, restante_client: Client
) -> None:
    async def broken(_: Any) -> None:
        raise ConnectionResetError

    slow.go.set()
    exchange = Exchange("respond-async, wait=30", leaves_after=0)
    async with RespondAsync(
        slow.application, restante_client, runner="shop-1", paths=("/reports",)
    ) as application:
        with pytest.raises(ConnectionResetError):
            await application(exchange.scope, exchange.receive, broken)
        await asyncio.wait_for(slow.ended.wait(), 20)


@pytest.mark.parametrize("wait", ["wait", "wait=soon", "wait=1.5", "wait=-1"])
async def test_a_wait_that_cannot_be_read_is_none(
    slow: Slow, restante_client: Client, wait: str
) -> None:
    async with served(slow, restante_client) as caller:
        await begun(caller, prefer=f"respond-async, {wait}")


async def test_only_where_it_is_preferred_and_meant(slow: Slow, restante_client: Client) -> None:
    slow.go.set()
    async with served(slow, restante_client) as caller:
        for headers in ({}, {"prefer": "wait=0"}, {"prefer": 'foo="a, respond-async"'}):
            answer = await caller.post("/reports/sales", content=b"May", headers=headers)
            assert answer.status_code == 201
        assert (await caller.get("/fast", headers=ASYNC)).content == b"fast"
        large = await caller.post("/reports/sales", content=bytes(2_000_000), headers=ASYNC)
        assert (large.status_code, len(large.content)) == (201, 2_000_010)


async def test_without_room_or_without_restante_it_is_answered_as_ever(
    slow: Slow, restante_client: Client
) -> None:
    async def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    slow.go.set()
    async with Client(
        "http://nowhere", "k", transport=httpx.MockTransport(away), retry_delays_seconds=()
    ) as nobody:
        for client, options in ((nobody, {}), (restante_client, {"under_way": 0})):
            async with served(slow, client, **options) as caller:
                answer = await caller.post("/reports/sales", content=b"May", headers=ASYNC)
                assert answer.status_code == 201
        async with served(slow, nobody) as caller:
            assert (await caller.get("/operations/x")).status_code == 503


async def test_no_way_to_answer_is_offered_that_cannot_be_kept(
    slow: Slow, restante_client: Client
) -> None:
    offered: list[Any] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        offered.append(scope["extensions"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    exchange = Exchange("respond-async, wait=30", leaves_after=1)
    exchange.scope["extensions"] = {"http.response.pathsend": {}, "tls": {}}
    async with RespondAsync(
        look, restante_client, runner="shop-1", paths=("/reports",)
    ) as application:
        await application(exchange.scope, exchange.receive, exchange.send)
    assert offered == [{"tls": {}}]
    assert exchange.sent[0]["status"] == 200
