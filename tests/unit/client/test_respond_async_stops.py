"""What is under way behind ``RespondAsync`` when its process is stopped, starts, or has crashed before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.unit.client.house import Slow, begun, served
from tests.unit.engine.house import turns

import restante
from restante.client import Client
from restante.client.respond_async import RespondAsync
from restante.model import Role
from restante.operation import OperationState
from restante.wire.operation_messages import OperationPage


async def test_an_answer_that_is_ready_at_the_stop_is_kept(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = restante_client.move_operation
    moving = asyncio.Event()

    async def move_late(id: str, **asked: Any) -> Any:
        if asked["state"] is OperationState.SUCCEEDED:
            moving.set()
            await turns(50)
        return await move(id, **asked)

    monkeypatch.setattr(restante_client, "move_operation", move_late)
    async with served(slow, restante_client) as caller:
        place = await begun(caller)
        slow.go.set()
        await moving.wait()
    async with served(slow, restante_client) as caller:
        answer = await caller.get(place)
        assert (answer.status_code, answer.content) == (201, b"report on May")


async def test_an_answer_that_says_it_failed_is_kept_at_the_stop(
    slow: Slow, restante_client: Client
) -> None:
    async with served(slow, restante_client) as caller:
        place = await begun(caller, "refused")
        slow.go.set()
        await slow.answered.wait()
        asyncio.get_running_loop().call_soon(slow.may_mail.set)
    assert slow.mailed
    async with served(slow, restante_client) as caller:
        answer = await caller.get(place)
        assert (answer.status_code, answer.content) == (503, b"no ink")


@pytest.mark.parametrize("what", ["mailed", "refused"])
async def test_what_is_ready_is_told_at_the_very_end_of_the_stop(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """By then, Restante may have been away or silent for all of the time there was."""
    move = restante_client.move_operation

    async def move_late(id: str, **asked: Any) -> Any:
        if asked["state"] is OperationState.RUNNING:
            await asyncio.Event().wait()
        return await move(id, **asked)

    monkeypatch.setattr(restante_client, "move_operation", move_late)
    monkeypatch.setattr("restante.client.respond_async._CLOSE_SECONDS", 0)
    async with served(slow, restante_client) as caller:
        place = await begun(caller, what)
        slow.go.set()
        await slow.answered.wait()
    monkeypatch.undo()
    async with served(slow, restante_client) as caller:
        answer = await caller.get(place)
        assert answer.content == {"mailed": b"report", "refused": b"no ink"}[what]


async def test_what_does_not_end_is_not_waited_for_at_the_stop(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restante.client.respond_async._CLOSE_SECONDS", 0)
    async with served(slow, restante_client) as caller:
        place = await begun(caller, "mailed")
        slow.go.set()
        assert (await caller.get(f"{place}?wait=30")).status_code == 200
    assert slow.ended.is_set()
    assert not slow.mailed


async def test_a_start_does_not_wait_for_a_service_that_is_silent(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = await restante_client.create_operation(runner="shop-1")
    look = restante_client.open_operations
    heard = asyncio.Event()

    async def look_late(**asked: Any) -> Any:
        await heard.wait()
        return await look(**asked)

    monkeypatch.setattr(restante_client, "open_operations", look_late)
    monkeypatch.setattr("restante.client.respond_async._START_SECONDS", 0)
    async with served(slow, restante_client) as caller:
        assert (await caller.get("/fast")).content == b"fast"
        heard.set()
        await begun(caller)
        answer = await caller.get(f"/operations/{crashed.id}")
        assert answer.json()["error"]["code"] == "interrupted"


async def test_one_that_is_interrupted_says_so(slow: Slow, restante_client: Client) -> None:
    """Stopped in order, it is told at once; after a crash, when the process of that name is there again."""
    async with served(slow, restante_client) as caller:
        stopped = await begun(caller)
    crashed = await restante_client.create_operation(title="POST /reports/x", runner="shop-1")
    other = await restante_client.create_operation(title="POST /reports/x", runner="shop-2")
    async with served(slow, restante_client) as caller:
        for place in (stopped, f"/operations/{crashed.id}"):
            answer = await caller.get(place)
            assert answer.json()["error"]["code"] == "interrupted", place
        assert (await caller.get(f"/operations/{other.id}")).status_code == 202
        assert (await caller.get("/operations/unknown")).status_code == 404


async def test_a_start_goes_on_behind_a_page_of_nothing(
    slow: Slow, restante_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was on it has ended while it was read, and there is more behind it."""
    look = restante_client.open_operations
    crashed = [await restante_client.create_operation(runner="shop-1") for _ in range(3)]

    async def look_late(*, after: str | None = None, **asked: Any) -> OperationPage:
        page = await look(after=after, limit=1, **asked)
        if after is None:
            for ended in page.operations:
                await restante_client.move_operation(ended.id, state=OperationState.CANCELLED)
            page.operations.clear()
        return page

    monkeypatch.setattr(restante_client, "open_operations", look_late)
    async with served(slow, restante_client):
        found = [await restante_client.operation(one.id) for one in crashed]
        states = sorted(one.state for one in found)
        assert states == [OperationState.CANCELLED, OperationState.FAILED, OperationState.FAILED]


async def test_by_the_server_s_lifespan(
    restante_client: Client, office: restante.embedding.Office
) -> None:
    """The client, too, may be opened and closed by the application's own, which comes within."""
    crashed = await restante_client.create_operation(runner="shop-1")
    key = await office.add_key(Role.PUBLISHER, "shop")
    client = Client("http://restante", key, transport=httpx.ASGITransport(app=office.asgi()))

    @contextlib.asynccontextmanager
    async def own(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    application = RespondAsync(
        Starlette(lifespan=own), client, runner="shop-1", paths=("/reports",)
    )
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    lifespan = asyncio.create_task(application(scope, told.get, said.put))
    told.put_nowait({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    found = await restante_client.operation(crashed.id)
    assert found.error is not None
    assert found.error.code == "interrupted"
    told.put_nowait({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await lifespan
